"""Optimizers and learning rates from plain settings."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optax

from vidgen_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
  """Adam with a learning rate that may be warmed up.

  Attributes:
    learning_rate: after the warm-up.
    warmup_steps: train steps over which the rate grows linearly from zero; 0 for none.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the root of the second moment.
    clip_norm: gradients are scaled down to this global norm; 0 for no clipping.
  """

  learning_rate: float
  warmup_steps: int = 0
  b1: float = 0.0
  b2: float = 0.999
  eps: float = 1e-8
  clip_norm: float = 0.0

  def __post_init__(self) -> None:
    """Raises UserError for values that could not train."""
    for name in ("learning_rate", "warmup_steps", "eps", "clip_norm"):
      if not 0 <= getattr(self, name) < math.inf:
        raise UserError(f"Adam's {name}={getattr(self, name)} must be 0 or more")
    for name in ("b1", "b2"):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(f"Adam's {name}={getattr(self, name)} must lie in [0, 1)")


def make_optimizer(config: AdamConfig) -> optax.GradientTransformation:
  """Adam's direction, without the learning rate and its sign (see `Update.learning_rate`)."""
  adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam) if config.clip_norm else adam


def scale_networks(
  optimizer: optax.GradientTransformation, factors: Mapping[str, float]
) -> optax.GradientTransformation:
  """The same optimizer, whose steps of some networks are scaled: their learning rates in units of the others'.

  Args:
    optimizer: of parameters by network.
    factors: by network; those that are not named keep theirs.
  """

  def update(
    gradients: optax.Updates, state: optax.OptState, params: optax.Params | None = None
  ) -> tuple[optax.Updates, optax.OptState]:
    directions, state = optimizer.update(gradients, state, params)
    scaled = {name: optax.tree.scale(factors.get(name, 1.0), direction) for name, direction in directions.items()}
    return scaled, state

  return optax.GradientTransformation(optimizer.init, update)


def make_learning_rate(config: AdamConfig) -> Callable[[int], float]:
  """The learning rate of a train step, given the number of completed ones."""

  def learning_rate(step: int) -> float:
    if step < config.warmup_steps:
      return config.learning_rate * (step + 1) / config.warmup_steps
    return config.learning_rate

  return learning_rate
