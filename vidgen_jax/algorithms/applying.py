"""Running modules on the variables of a `NetState`."""

from collections.abc import Callable
from typing import Any

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
