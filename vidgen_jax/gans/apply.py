"""Forward passes of modules with the variables of a `NetState`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.state import Nets, NetState
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


def apply_discriminator(
  apply: Callable[..., Any], net: NetState, videos: Sequence[jax.Array], label: jax.Array
) -> tuple[tuple[Any, ...], NetState]:
  """Applies a discriminator once to several sets of clips, so that its power iteration advances once.

  Args:
    apply: apply method of the module: (variables, video [B, ...], label [B]) to a pytree of [B, ...].
    net: net of the discriminator.
    videos: sets of clips of equal shape, [B, ...] each.
    label: int [B], labels of every set.

  Returns:
    (outputs for each set, net with updated variables).
  """
  count, batch = len(videos), label.shape[0]
  # Interleaved clip by clip, not concatenated: every device keeps the clips it holds.
  stacked = jnp.stack(videos, axis=1).reshape(count * batch, *videos[0].shape[1:])
  scores, net = apply_mutable(apply, net, stacked, jnp.repeat(label, count))
  scores = jax.tree.map(lambda x: x.reshape(batch, count, *x.shape[1:]), scores)
  return tuple(jax.tree.map(lambda x, i=i: x[:, i], scores) for i in range(count)), net


def class_labels(label: jax.Array, num_classes: int) -> jax.Array:
  """Labels int [B] for a conditional model; zeros, the only class, for a model with one class."""
  return label if num_classes > 1 else jnp.zeros_like(label)
