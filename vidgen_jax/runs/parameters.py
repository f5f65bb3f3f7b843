"""A table of every network's parameters, for the head of a run's log."""

from collections.abc import Mapping

from clu import parameter_overview

from vidgen_jax.types import Params


def parameter_table(networks: Mapping[str, Params]) -> str:
  """Lists name, shape, dtype and size of every parameter, network by network, each with its total.

  Only shapes are read, so arrays sharded over several hosts, and `jax.eval_shape`'s results, will do.

  Args:
    networks: parameter trees by network name.

  Returns:
    Several lines of text.
  """
  parts = []
  for name, params in networks.items():
    parts.append(f"{name}\n{parameter_overview.get_parameter_overview(params, include_stats=False)}")
  total = sum(parameter_overview.count_parameters(params) for params in networks.values())
  return "\n\n".join([*parts, f"All networks: {total:,} parameters"])
