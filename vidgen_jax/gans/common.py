"""Forward passes, latents and checks of settings that several GANs share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.errors import UserError
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.spectral import SPECTRAL_STATS
from vidgen_jax.types import Variables

MUTABLE = (BATCH_STATS, SPECTRAL_STATS)
"""Collections that a forward pass in train mode updates."""


def net_state(collections: Variables) -> NetState:
  """State of a newly initialised net."""
  variables = {name: value for name, value in collections.items() if name in MUTABLE}
  return NetState(params=collections["params"], variables=variables)


def without_batch_stats(net: NetState) -> NetState:
  """The net without batch statistics, so that a pass in train mode creates them at any clip length."""
  return net.replace(variables={name: value for name, value in net.variables.items() if name != BATCH_STATS})


def apply_mutable(apply: Callable[..., Any], net: NetState, *inputs: Any, **options: Any) -> tuple[Any, NetState]:
  """Applies a module with mutable variables; returns (output, net with updated variables)."""
  output, variables = apply(net.collections, *inputs, mutable=list(MUTABLE), **options)
  return output, net.replace(variables={**net.variables, **variables})


@dataclass(frozen=True)
class BoundNets:
  """Modules and the nets that hold their variables, both by name."""

  modules: Mapping[str, nn.Module]
  nets: Nets

  def apply(self, name: str, *inputs: Any, **options: Any) -> Any:
    """Output of a module; its variables stay as they are."""
    return self.modules[name].apply(self.nets[name].collections, *inputs, **options)

  def apply_mutable(self, name: str, *inputs: Any, **options: Any) -> tuple[Any, NetState]:
    """Output of a module, and its net with updated variables."""
    return apply_mutable(self.modules[name].apply, self.nets[name], *inputs, **options)


def class_labels(label: jax.Array, num_classes: int) -> jax.Array:
  """Labels int [B] for a conditional model; zeros, the only class, for a model with one class."""
  return label if num_classes > 1 else jnp.zeros_like(label)


def check_counts(config: Any, *names: str) -> None:
  """Checks that the named fields are at least 1."""
  for name in names:
    if getattr(config, name) < 1:
      raise UserError(f"algorithm.{name}={getattr(config, name)} must be at least 1")


def check_entries(config: Any, *names: str) -> None:
  """Checks that the named fields are tuples of positive, finite numbers, not empty."""
  for name in names:
    if not getattr(config, name) or not 0 < min(getattr(config, name)) < math.inf:
      raise UserError(f"algorithm.{name}={getattr(config, name)} must be positive numbers")


def check_weights(config: Any, *names: str) -> None:
  """Checks that the named fields are finite and not negative."""
  for name in names:
    if not 0 <= getattr(config, name) < math.inf:
      raise UserError(f"algorithm.{name}={getattr(config, name)} must be 0 or more")


def check_channels(config: Any, channels: int) -> None:
  """Checks that the clips have the model's number of channels."""
  if channels != config.channels:
    raise UserError(f"data.channels={channels} and algorithm.channels={config.channels} must be equal")


def check_resolution(config: Any, height: int, width: int, factors: Mapping[str, int]) -> None:
  """Checks that frames can be halved as often as the networks halve them.

  `factors` are the required divisors of height and width, by the field whose entries cause them.
  """
  for name, factor in factors.items():
    if height % factor or width % factor:
      raise UserError(
        f"data.resolution gives frames of {height}x{width}, but the {len(getattr(config, name))} entries of "
        f"algorithm.{name} need multiples of {factor}"
      )


def draw_latent(key: jax.Array, shape: Sequence[int], *, truncation: float | None = None) -> jax.Array:
  """Draws float32 values of a shape from the standard normal distribution (BigGAN, section 3.1).

  `truncation` is a bound in standard deviations: 0 gives zeros, None does not truncate, ValueError if negative.
  """
  if truncation is None:
    return jax.random.normal(key, shape, jnp.float32)
  if truncation < 0:
    raise ValueError(f"truncation must be 0 or more, got {truncation=}")
  if truncation == 0:
    return jnp.zeros(shape, jnp.float32)
  return jax.random.truncated_normal(key, -truncation, truncation, shape, jnp.float32)
