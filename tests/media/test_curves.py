"""Curves of a metrics file, as arrays and as an image."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.errors import UserError
from vidgen_jax.media import curves
from vidgen_jax.runs.writers import JsonlWriter

needs_matplotlib = pytest.mark.skipif(
  importlib.util.find_spec("matplotlib") is None, reason="the extra [plot] is not installed"
)


@pytest.fixture
def metrics(tmp_path):
  writer = JsonlWriter(tmp_path / "metrics.jsonl")
  for step in (1, 2, 3):
    writer.write_scalars(step, {"disc/loss": 1.0 / step, "gen/loss": float("nan") if step == 2 else step})
  writer.write_scalars(2, {"eval/psnr": 21.5})
  writer.close()
  return tmp_path / "metrics.jsonl"


def test_read_metrics_by_hand(metrics):
  with metrics.open("a") as file:
    file.write('{"step": 4, "disc/l')
  found = curves.read_metrics(metrics)
  assert sorted(found) == ["disc/loss", "eval/psnr", "gen/loss"]
  np.testing.assert_array_equal(found["gen/loss"][0], [1, 3])
  np.testing.assert_array_equal(found["gen/loss"][1], [1.0, 3.0])
  np.testing.assert_allclose(found["disc/loss"][1], [1.0, 0.5, 1 / 3])


@needs_matplotlib
def test_draws_a_panel_for_each_metric(metrics, tmp_path):
  curves.draw_curves(metrics, tmp_path / "one.png", names=["disc/loss"])
  curves.draw_curves(metrics, tmp_path / "all.png", baselines={"eval/psnr": {"copy last": 24.9, "black": 21.9}})
  with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "all.png") as everything:
    assert everything.width == pytest.approx(3 * one.width, abs=2)
    assert len(np.unique(np.array(one).reshape(-1, 4), axis=0)) > 20
    # The second baseline has the light end of the colour scale, blended with white in a thin line.
    for image, has_baselines in ((everything, True), (one, False)):
      pixels = np.array(image.convert("RGB")).astype(int)
      assert (np.abs(pixels - (173, 220, 48)).max(axis=2) < 48).any() == has_baselines
  assert sorted(path.name for path in tmp_path.iterdir()) == ["all.png", "metrics.jsonl", "one.png"]


@needs_matplotlib
def test_errors_name_the_metric_or_file(metrics, tmp_path):
  with pytest.raises(UserError, match="no metric 'psnr'; it has disc/loss, eval/psnr, gen/loss"):
    curves.draw_curves(metrics, tmp_path / "a.png", names=["psnr"])
  with pytest.raises(UserError, match=r"none\.jsonl cannot be read"):
    curves.draw_curves(tmp_path / "none.jsonl", tmp_path / "a.png")
  (tmp_path / "empty.jsonl").write_text("")
  with pytest.raises(UserError, match="no metrics yet"):
    curves.draw_curves(tmp_path / "empty.jsonl", tmp_path / "a.png")
  (tmp_path / "bad.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
  with pytest.raises(UserError, match="line 2"):
    curves.draw_curves(tmp_path / "bad.jsonl", tmp_path / "a.png")


def test_matplotlib_is_optional(metrics, tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"vidgen-jax\[plot\]"):
    curves.draw_curves(metrics, tmp_path / "a.png")
