"""All metrics, collected from the modules of `vidgen_jax.scores.metrics`; a new one needs its module only."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from vidgen_jax.scores import metrics
from vidgen_jax.scores.metric import Kind, Metric, Need

_DISTANCES_ONLY = frozenset(("video_statistics",))  # networks without logits, whose features have no meaningful angles


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


def paired_metrics(*, available: Iterable[Need] = (Need.TRUTH,)) -> tuple[Metric, ...]:
  """Metrics of frames and clips against their truth, as far as their needs are available."""
  available = set(available)
  return tuple(
    metric
    for metric in METRICS.values()
    if metric.kind is not Kind.SET and Need.TRUTH in metric.needs and available.issuperset(metric.needs)
  )


def network_metrics(network: str) -> list[Metric]:
  """The metrics of a feature network's output, under their names for this network: a Frechet distance on I3D is FVD."""
  candidates = [m for m in METRICS.values() if Need.FEATURES in m.needs or Need.LOGITS in m.needs]
  if network in _DISTANCES_ONLY:
    candidates = [m for m in candidates if {Need.FEATURES, Need.REAL_SET} <= {*m.needs}]
  named = {metric.function for metric in candidates if network in metric.networks}
  return [m for m in candidates if network in m.networks or not (m.networks or m.function in named)]
