"""Adam and its learning rate, built from configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optax

from vidgen_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
  """Adam with an optional linear warm-up of the learning rate.

  Attributes:
    learning_rate: learning rate after the warm-up.
    warmup_steps: number of train steps over which the rate grows linearly from zero; 0 disables the warm-up.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: term added to the root of the second moment.
    clip_norm: maximum global norm of the gradients; 0 disables clipping.
  """

  learning_rate: float
  warmup_steps: int = 0
  b1: float = 0.0
  b2: float = 0.999
  eps: float = 1e-8
  clip_norm: float = 0.0

  def __post_init__(self) -> None:
    for name in ("learning_rate", "warmup_steps", "eps", "clip_norm"):
      if not 0 <= getattr(self, name) < math.inf:
        raise UserError(f"Adam's {name}={getattr(self, name)} must be 0 or more")
    for name in ("b1", "b2"):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(f"Adam's {name}={getattr(self, name)} must be in [0, 1)")

  def learning_rate_at(self, step: int) -> float:
    """Learning rate of the train step after `step` completed ones."""
    if step < self.warmup_steps:
      return self.learning_rate * (step + 1) / self.warmup_steps
    return self.learning_rate


def make_optimizer(config: AdamConfig) -> optax.GradientTransformation:
  """Adam without the learning rate and the sign, which `Update` applies."""
  adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam) if config.clip_norm else adam


def scale_networks(
  optimizer: optax.GradientTransformation, factors: Mapping[str, float]
) -> optax.GradientTransformation:
  """Scales the steps of some networks, which gives each its own learning rate.

  `optimizer` is one of parameters by network name; `factors` are multiples of the learning rate, 1 where missing.
  """

  def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
    directions, state = optimizer.update(updates, state, params)
    by_name: Any = directions
    scaled = {name: optax.tree.scale(factors.get(name, 1.0), direction) for name, direction in by_name.items()}
    return scaled, state

  return optax.GradientTransformation(optimizer.init, update)
