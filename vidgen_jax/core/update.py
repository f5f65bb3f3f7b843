"""Updates: the data that describes an algorithm's train step."""

from collections.abc import Callable
from dataclasses import dataclass

import flax.struct
import jax
import optax

from vidgen_jax.core.state import Nets
from vidgen_jax.types import Batch, Metrics, PRNGKey


@flax.struct.dataclass
class LossOutput:
  """Auxiliary output of a loss."""

  nets: Nets
  """Nets with the variables after the forward pass (spectral vectors, batch statistics)."""
  metrics: Metrics
  """float32 scalars by name, without the update's prefix."""


Loss = tuple[jax.Array, LossOutput]
"""Value of a loss, and its auxiliary output."""

LossFn = Callable[[Nets, Nets, Batch, PRNGKey, jax.Array], Loss]
"""(nets, frozen nets, batch, key, completed steps) -> loss, with one micro-batch: video uint8 [B, T, H, W, C]."""


@dataclass(frozen=True, kw_only=True)
class Update:
  """One kind of optimisation step.

  Attributes:
    name: prefix of the metrics and key in `TrainState.opt_states`: 'disc', 'gen', ...
    trains: names of the nets that are differentiated and stepped.
    refreshes: names of the nets whose other variables are written back.
    loss_fn: loss of one micro-batch.
    optimizer: transformation from gradients to directions, which are then multiplied by minus the learning rate.
    learning_rate: function from the number of completed train steps to the rate; called on the host, because the rate
      is an argument of the compiled step.
    repeats: number of runs in a train step, each on its own micro-batch.
  """

  name: str
  trains: tuple[str, ...]
  refreshes: tuple[str, ...]
  loss_fn: LossFn
  optimizer: optax.GradientTransformation
  learning_rate: Callable[[int], float]
  repeats: int = 1


def num_microbatches(updates: tuple[Update, ...]) -> int:
  """Number of micro-batches that a train step consumes."""
  return sum(update.repeats for update in updates)
