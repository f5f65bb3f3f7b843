"""Adam and its learning rate, built from configuration."""

from collections.abc import Mapping
from typing import Any

import optax

from vidgen_jax.core.config import AdamConfig


def make_optimizer(config: AdamConfig) -> optax.GradientTransformation:
  """Adam without the learning rate and the sign, which `Update` applies."""
  if config.b1:
    adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)
  else:  # The same directions without a copy of the gradients as first moments.
    adam = optax.scale_by_rms(config.b2, config.eps, eps_in_sqrt=False, bias_correction=True)
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
