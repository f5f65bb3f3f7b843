"""The metric registry: one entry per metric, complete and consistent."""

import inspect
import sys
from types import ModuleType

import pytest

from vidgen_jax.scores import registry
from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.registry import METRICS, SELECTION_DIRECTIONS, network_metrics, paired_metrics


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_entries_are_complete(metric):
  assert METRICS[metric.name] is metric
  assert metric.description and metric.source
  assert inspect.getdoc(metric.function)
  assert metric.higher_is_better is not None or not metric.selectable
  metric.protocol.format(divisor="N", samples=2, splits="", k=3)


def test_metrics_of_one_row_have_one_direction_and_unit():
  for metric in METRICS.values():
    for other in METRICS.values():
      if other.row == metric.row:
        assert (other.higher_is_better, other.unit) == (metric.higher_is_better, metric.unit)


def test_paired_metrics_are_limited_to_the_available_inputs():
  names = lambda *needs: [metric.name for metric in paired_metrics(available=(Need.TRUTH, *needs))]
  assert names() == ["psnr", "psnr_pooled", "ssim"]
  assert set(names(Need.OBJECT)) - set(names()) == {"centroid_error", "penalised_centroid_error", "presence"}
  assert set(names(Need.CONDITIONING)) - set(names()) == {"anchor_psnr"}


def test_checkpoints_are_selected_by_metrics_with_a_meaningful_best():
  assert SELECTION_DIRECTIONS["psnr"] and not SELECTION_DIRECTIONS["fvd"]
  assert not {"presence", "anchor_psnr", "content_distance"} & set(SELECTION_DIRECTIONS)


@pytest.mark.parametrize(
  ("network", "names"),
  [
    ("i3d", {"fvd", "kvd", "fvd_infinity", "diversity_of_logits"}),
    ("tsn", {"fid", "clip_kernel", "fid_infinity", "diversity"}),
    ("inception", {"frame_fid", "frame_kid", "frame_fid_infinity", "diversity"}),
    ("vjepa", {"jedi", "clip_frechet", "clip_kernel", "clip_frechet_infinity", "diversity"}),
    ("c3d", {"clip_frechet", "clip_kernel", "clip_frechet_infinity", "diversity"}),
  ],
)
def test_networks_name_their_metrics(network, names):
  assert {metric.name for metric in network_metrics(network)} == {
    *("inception_score", "precision", "recall", "density", "coverage", *names)
  }


def test_a_new_metric_needs_one_module_only(monkeypatch, tmp_path):
  (tmp_path / "mean_error.py").write_text(
    "from vidgen_jax.scores.metric import Kind, Metric, Need\n"
    "def mean_error(prediction, truth): ...\n"
    "METRICS = (Metric(name='mae', description='d', source='s', protocol='frame_mean', function=mean_error,\n"
    "  higher_is_better=False, kind=Kind.FRAME, needs=(Need.TRUTH,)),)\n"
  )
  monkeypatch.setattr(registry.metrics, "__path__", [*registry.metrics.__path__, str(tmp_path)])
  found = registry._collect()
  monkeypatch.delitem(sys.modules, "vidgen_jax.scores.metrics.mean_error")
  assert set(found) - set(METRICS) == {"mae"}
  assert (found["mae"].row, found["mae"].kind) == ("mae", Kind.FRAME)


def test_a_name_used_twice_raises(monkeypatch):
  copy = ModuleType("vidgen_jax.scores.metrics.psnr")
  copy.METRICS = (METRICS["ssim"],)
  monkeypatch.setitem(sys.modules, copy.__name__, copy)
  with pytest.raises(ValueError, match="metric 'ssim' is already defined"):
    registry._collect()


def test_metrics_are_hashable_values():
  assert isinstance(METRICS["psnr"], Metric) and METRICS["psnr"] in set(METRICS.values())
