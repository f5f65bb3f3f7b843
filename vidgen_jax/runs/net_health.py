"""What the weights alone say of a training's health: their norms, and the largest singular values of their kernels."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidgen_jax.core.state import Nets
from vidgen_jax.nn.spectral import SPECTRAL_STATS, power_iteration
from vidgen_jax.types import Metrics


def net_health(nets: Nets) -> Metrics:
  """Norms and singular values of live networks, of one moment.

  A kernel's sigma is the number that evaluation divides it by: one power iteration from the stored vector, which stays
  as it is. Kernels without spectral normalisation have none.

  Args:
    nets: networks by name.

  Returns:
    float32[] by name: '{net}/param_norm', the L2 norm of all parameters together; and, of nets with spectral
    normalisation, '{net}/sigma_max' and '{net}/sigma_mean' over their normalised kernels, before the division.
  """
  metrics = {}
  for name, net in nets.items():
    metrics[f"{name}/param_norm"] = optax.tree.norm(net.params)
    sigmas = list(_sigmas(net.params, net.variables.get(SPECTRAL_STATS, {})))
    if sigmas:
      stacked = jnp.stack(sigmas)
      metrics |= {f"{name}/sigma_max": jnp.max(stacked), f"{name}/sigma_mean": jnp.mean(stacked)}
  return metrics


def _sigmas(params: Mapping[str, Any], vectors: Mapping[str, Any]) -> Iterator[jax.Array]:
  """Of every kernel whose vector, '{kernel}_u', lies at the same place in the other tree."""
  for name, found in vectors.items():
    if isinstance(found, Mapping):
      yield from _sigmas(params[name], found)
    else:
      yield power_iteration(params[name.removesuffix("_u")], found)[0]
