"""The training contract: updates as data, and what the training loop needs from a model."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import flax.struct
import jax
import optax
from flax import linen as nn

from vidgen_jax.core.config import AdamConfig
from vidgen_jax.core.optimizers import make_optimizer, scale_networks
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


@dataclass(frozen=True, kw_only=True)
class FrozenNetwork:
  """A network that losses use and no update trains.

  Attributes:
    module: network module.
    network: registered network name; the weight file must carry the same name.
    weights: path of the .safetensors file.
  """

  module: nn.Module
  network: str
  weights: str


class Algorithm(Protocol):
  """Networks and losses, bound into updates. Implementations are frozen dataclasses without arrays.

  A subclass with one phase and no frozen networks implements `ema_nets`, `networks`, `init` and `updates`.
  """

  @property
  def phases(self) -> tuple[str, ...]:
    """Names of the training phases, in order."""
    return ("main",)

  def phase_at(self, step: int) -> str:
    """Phase of the train step that follows `step` completed steps; called on the host."""
    del step
    return self.phases[0]

  @property
  def microbatches(self) -> int:
    """K: the pipeline delivers [K, B, T, H, W, C] for every train step."""
    return max(num_microbatches(self.updates(phase)) for phase in self.phases)

  @property
  @abstractmethod
  def ema_nets(self) -> tuple[str, ...]:
    """Nets whose parameters are averaged."""

  @abstractmethod
  def networks(self) -> Mapping[str, nn.Module]:
    """Trained networks by name."""

  def frozen_networks(self) -> Mapping[str, FrozenNetwork]:
    """Networks that losses use and no update trains, by the names under which losses find them."""
    return {}

  @abstractmethod
  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    """Newly initialised nets for micro-batches of this shape: video uint8 [B, T, H, W, C].

    Raises:
      UserError: if the networks do not fit clips of this length and size.
    """

  @abstractmethod
  def updates(self, phase: str) -> tuple[Update, ...]:
    """Updates of a train step, in order."""


def adam_update(
  name: str,
  nets: tuple[str, ...],
  loss_fn: LossFn,
  optimizer: AdamConfig,
  *,
  repeats: int = 1,
  rate_factors: Mapping[str, float] | None = None,
) -> Update:
  """An `Update` that trains nets with Adam and writes their other variables back.

  `rate_factors` are the learning rates of some nets, as multiples of the common rate.
  """
  return Update(
    name=name,
    trains=nets,
    refreshes=nets,
    loss_fn=loss_fn,
    optimizer=scale_networks(make_optimizer(optimizer), rate_factors) if rate_factors else make_optimizer(optimizer),
    learning_rate=optimizer.learning_rate_at,
    repeats=repeats,
  )
