"""All metrics, collected from the modules of `vidgen_jax.scores.metrics`; a new one needs its module only."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from vidgen_jax.scores import metrics
from vidgen_jax.scores.metric import Kind, Metric, Need


def _collect() -> dict[str, Metric]:
  found: dict[str, Metric] = {}
  for module in sorted(pkgutil.iter_modules(metrics.__path__, f"{metrics.__name__}."), key=lambda info: info.name):
    for metric in getattr(importlib.import_module(module.name), "METRICS", ()):
      if metric.name in found:
        raise ValueError(f"{module.name}: metric {metric.name!r} is already defined in another module")
      found[metric.name] = metric
  return found


METRICS: Mapping[str, Metric] = MappingProxyType(_collect())
"""Metrics by name: module by module in alphabetical order, within a module in its own order."""

SELECTION_DIRECTIONS: Mapping[str, bool] = MappingProxyType(
  {metric.row: bool(metric.higher_is_better) for metric in METRICS.values() if metric.selectable}
)
"""Whether higher is better, by row name, of the metrics that the best checkpoint may be chosen by."""


def paired_metrics(available: Iterable[Need] = (Need.TRUTH,)) -> tuple[Metric, ...]:
  """Metrics of frames and clips against their truth, as far as their needs are available."""
  available = set(available)
  return tuple(
    metric
    for metric in METRICS.values()
    if metric.kind is not Kind.SET and Need.TRUTH in metric.needs and available.issuperset(metric.needs)
  )


def network_metric(function: Callable[..., Any], network: str) -> Metric:
  """The metric that `function` computes on the output of a feature network: a Frechet distance on I3D is FVD.

  Args:
    function: `Metric.function`.
    network: key of `vidgen_jax.scores.networks.NETWORKS`.
  """
  found = [metric for metric in METRICS.values() if metric.function is function]
  return next((m for m in found if network in m.networks), None) or next(m for m in found if not m.networks)
