"""Running modules on the variables of a `NetState`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vidgen_jax.core.state import NetState
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.spectral import SPECTRAL_STATS
from vidgen_jax.types import Variables

MUTABLE = (BATCH_STATS, SPECTRAL_STATS)
"""Collections that a forward pass in train mode may change."""


def net_state(collections: Variables) -> NetState:
  """The state of a net that was just initialised."""
  variables = {name: value for name, value in collections.items() if name in MUTABLE}
  return NetState(params=collections["params"], variables=variables)


def apply_mutable(apply: Callable[..., Any], net: NetState, *inputs: Any, **options: Any) -> tuple[Any, NetState]:
  """Applies a module with all its variables mutable: (output, the net with the variables it left)."""
  output, variables = apply(net.collections, *inputs, mutable=list(MUTABLE), **options)
  return output, net.replace(variables={**net.variables, **variables})


def apply_discriminator(
  apply: Callable[..., Any], net: NetState, videos: Sequence[jax.Array], label: jax.Array
) -> tuple[tuple[Any, ...], NetState]:
  """One call of a discriminator on several sets of clips, so that its power iteration advances once.

  The sets are interleaved clip by clip, so that every device keeps the clips it has.

  Args:
    apply: of the module, (variables, video [B, ...], label [B]) to a pytree of [B, ...].
    net: of the discriminator.
    videos: sets of one shape, [B, ...] each.
    label: int [B], the same for all sets.

  Returns:
    (what the discriminator says of each set, the net with the variables it left).
  """
  count, batch = len(videos), label.shape[0]
  stacked = jnp.stack(videos, axis=1).reshape(count * batch, *videos[0].shape[1:])
  scores, net = apply_mutable(apply, net, stacked, jnp.repeat(label, count))
  scores = jax.tree.map(lambda x: x.reshape(batch, count, *x.shape[1:]), scores)
  return tuple(jax.tree.map(lambda x, i=i: x[:, i], scores) for i in range(count)), net
