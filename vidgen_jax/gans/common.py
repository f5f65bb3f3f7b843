"""Forward passes, latents and checks of settings that several GANs share."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.errors import UserError
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.spectral import SPECTRAL_STATS
from vidgen_jax.ops.devices import draw_per_clip
from vidgen_jax.types import PRNGKey

MUTABLE = (BATCH_STATS, SPECTRAL_STATS)
"""Collections that a forward pass in train mode updates."""


def init_nets(key: PRNGKey, modules: Mapping[str, nn.Module], inputs: Mapping[str, Mapping[str, Any]]) -> Nets:
  """Newly initialised nets; `inputs` are the arguments of the modules' calls, by module and name."""
  nets: Nets = {}
  for net_key, (name, module) in zip(jax.random.split(key, len(modules)), modules.items(), strict=True):
    collections = module.init(net_key, **inputs[name])
    variables = {kind: value for kind, value in collections.items() if kind in MUTABLE}
    nets[name] = NetState(params=collections["params"], variables=variables)
  return nets


@dataclass(frozen=True)
class BoundNets:
  """Modules and the nets that hold their variables, both by name."""

  modules: Mapping[str, nn.Module]
  nets: Nets

  def apply(self, name: str, *inputs: Any, **options: Any) -> Any:
    """Output of a module, whose variables stay unchanged; for train mode use `apply_mutable`."""
    return self.modules[name].apply(self.nets[name].collections, *inputs, **options)

  def apply_mutable(self, name: str, *inputs: Any, train: bool, **options: Any) -> tuple[Any, NetState]:
    """Output of a module, and its net: with `train` with updated variables, otherwise unchanged."""
    net = self.nets[name]
    if not train:
      return self.apply(name, *inputs, train=False, **options), net
    output, variables = self.modules[name].apply(net.collections, *inputs, train=True, mutable=list(MUTABLE), **options)
    return output, net.replace(variables={**net.variables, **variables})


def class_labels(label: jax.Array, num_classes: int) -> jax.Array:
  """Labels int [B] for a conditional model; zeros, the only class, for a model with one class."""
  return label if num_classes > 1 else jnp.zeros_like(label)


def check_frames(config: Any, height: int, width: int, channels: int, factors: Mapping[str, int]) -> None:
  """Checks that frames have the model's channels and can be halved as often as the networks halve them.

  `factors` are the required divisors of height and width, by the field whose entries cause them.
  """
  if channels != config.channels:
    raise UserError(f"data.channels={channels} and algorithm.channels={config.channels} must be equal")
  for name, factor in factors.items():
    if height % factor or width % factor:
      raise UserError(
        f"data.resolution gives frames of {height}x{width}, but the {len(getattr(config, name))} entries of "
        f"algorithm.{name} need multiples of {factor}"
      )


def check_frames_per_clip(config: Any, available: int) -> None:
  """Checks that `config.frames_per_clip` frames can be drawn from the available ones."""
  if not 1 <= config.frames_per_clip <= available:
    raise UserError(f"algorithm.frames_per_clip={config.frames_per_clip} must be in 1..{available} for these clips")


def draw_latent(key: jax.Array, shape: Sequence[int], *, truncation: float | None = None) -> jax.Array:
  """Draws float32 values of a shape [B, ...] from the standard normal distribution (BigGAN, section 3.1).

  `truncation` is a bound in standard deviations: 0 gives zeros, None does not truncate, ValueError if negative.
  """
  if truncation is None:
    return draw_per_clip(functools.partial(jax.random.normal, key, dtype=jnp.float32), shape)
  if truncation < 0:
    raise ValueError(f"truncation must be 0 or more, got {truncation=}")
  if truncation == 0:
    return jnp.zeros(shape, jnp.float32)
  draw = functools.partial(jax.random.truncated_normal, key, -truncation, truncation, dtype=jnp.float32)
  return draw_per_clip(draw, shape)
