"""A GAN algorithm is data: a tuple of updates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flax.struct
import jax
import optax

from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.types import Batch, Metrics, PRNGKey


@flax.struct.dataclass
class LossOutput:
  """What a loss returns beside its value."""

  nets: Nets
  """Nets with the variables that this forward pass left (spectral vectors, batch statistics)."""
  metrics: Metrics
  """float32 scalars by name, without the update's prefix."""


LossFn = Callable[[Nets, Mapping[str, NetState], Batch, PRNGKey, jax.Array], tuple[jax.Array, LossOutput]]
"""(nets, frozen, batch, key, step) -> (loss, LossOutput); batch is one micro-batch, video uint8 [B, T, H, W, C]."""


@dataclass(frozen=True, kw_only=True)
class Update:
  """One kind of optimisation step.

  Attributes:
    name: 'disc', 'gen', ...: prefix of its metrics, and its key in `TrainState.opt_states`.
    trains: nets that are differentiated and stepped.
    refreshes: nets whose other variables are written back after the step.
    loss_fn: see `LossFn`.
    optimizer: gives the direction; it is scaled by minus the learning rate afterwards.
    learning_rate: by completed train steps, called on the host: the rate is an argument of the compiled step, so that
      changing it recompiles nothing.
    repeats: how often it runs in a train step, each time on a micro-batch of its own.
  """

  name: str
  trains: tuple[str, ...]
  refreshes: tuple[str, ...]
  loss_fn: LossFn
  optimizer: optax.GradientTransformation
  learning_rate: Callable[[int], float]
  repeats: int = 1


def num_microbatches(updates: tuple[Update, ...]) -> int:
  """How many micro-batches one train step of these updates consumes."""
  return sum(update.repeats for update in updates)
