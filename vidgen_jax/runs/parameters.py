"""Parameters of live networks: a table of their sizes, their norms and the singular values of their kernels."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from clu import parameter_overview

from vidgen_jax.core.state import Nets
from vidgen_jax.nn.spectral import SPECTRAL_STATS, power_iteration
from vidgen_jax.types import Metrics, Params


def parameter_table(networks: Mapping[str, Params]) -> str:
  """Name, shape, dtype and size of every parameter as text, with a total per network and over all.

  Args:
    networks: parameter trees by network name; only shapes are read, so `jax.eval_shape` results and arrays that other
      hosts hold are accepted.
  """
  parts = []
  for name, params in networks.items():
    parts.append(f"{name}\n{parameter_overview.get_parameter_overview(params, include_stats=False)}")
  total = sum(parameter_overview.count_parameters(params) for params in networks.values())
  return "\n\n".join([*parts, f"All networks: {total:,} parameters"])


def parameter_norms(nets: Nets) -> Metrics:
  """Norms and singular values of live networks.

  The sigma of a kernel is the divisor of spectral normalisation at evaluation: one power iteration from the stored
  vector, which stays unchanged.

  Args:
    nets: networks by name.

  Returns:
    float32[] by name: '{net}/param_norm', the L2 norm of all parameters of the net; for nets with spectral
    normalisation also '{net}/sigma_max' and '{net}/sigma_mean' over the normalised kernels, before the division.
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
  for name, found in vectors.items():
    if isinstance(found, Mapping):
      yield from _sigmas(params[name], found)
    else:
      # The vector of kernel K is named K_u and has the same path in its own tree.
      yield power_iteration(params[name.removesuffix("_u")], found)[0]
