"""Inference from random anchors: scores of a fake model by hand, and the files of a real run."""

import json
import types

import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax.runs.figures import anchor_study
from vidgen_jax.scores.metrics.psnr import frame_psnr

pytest_plugins = ("tests.trained_runs",)

TRUTH = np.random.default_rng(0).integers(256, size=(3, 4, 16, 16, 3), dtype=np.uint8)
TIMES = np.array([[0, 2], [1, 3], [0, 1]], np.int32)
OTHERS = [[1, 3], [0, 2], [2, 3]]


class FakeStudy:
  """A fake `AnchorStudy`: each sample has its own noise; anchors are wrong by 1 of 255."""

  def random_times(self, count):
    return TIMES[:count]

  def video(self, spread, seed):
    noise = np.random.default_rng(seed).normal(scale=spread, size=TRUTH.shape)
    video = np.clip(TRUTH + noise, 0, 255).astype(np.uint8)
    for clip, times in enumerate(TIMES):
      video[clip, times] = TRUTH[clip, times] ^ 1
    return video

  def infer(self, truth, times, *, sample):
    return self.video(20, 99) if sample is None else self.video((10, 40, 5)[sample], sample)

  def interpolate(self, truth, times):
    return self.video(60, 77)


def by_hand(video):
  values = np.asarray(frame_psnr(video, TRUTH))
  return np.array([values[clip, frames].mean() for clip, frames in enumerate(OTHERS)])


def test_scores_by_hand():
  study = FakeStudy()
  report = anchor_study.measure(study, TRUTH, samples=3)
  samples = np.stack([by_hand(study.infer(TRUTH, TIMES, sample=j)) for j in range(3)])
  best = {"1": samples[:1], "2": samples[:2], "3": samples}
  assert report["best_of"] == pytest.approx(
    {count: several.max(axis=0).mean() for count, several in best.items()}, rel=1e-5
  )
  assert report["mean_of_samples"] == pytest.approx(samples.mean(), rel=1e-5)
  assert report["deterministic"] == pytest.approx(by_hand(study.video(20, 99)).mean(), rel=1e-5)
  assert report["naive_interpolation"] == pytest.approx(by_hand(study.video(60, 77)).mean(), rel=1e-5)
  assert report["anchors"] == pytest.approx(20 * np.log10(255), rel=1e-5)
  assert (report["num_clips"], report["num_anchors"], report["num_settings"]) == (3, 2, 3)


@pytest.mark.parametrize(("frames", "anchors", "count", "settings"), [(16, 6, 200, 200), (5, 2, 23, 10)])
def test_anchor_settings_are_distinct_as_far_as_possible(frames, anchors, count, settings):
  sampler = types.SimpleNamespace(num_frames=frames, conditioning_indices=range(anchors), experiment=None)
  times = anchor_study.AnchorStudy(sampler, sampler, seed=0).random_times(count)
  assert (times.shape, times.dtype) == ((count, anchors), np.int32)
  assert np.all(np.diff(times) > 0) and times.min() >= 0 and times.max() < frames
  found, counts = np.unique(times, axis=0, return_counts=True)
  assert len(found) == settings and counts.max() - counts.min() <= 1


def test_the_figures_of_a_run(anchors_folder, tmp_path):
  pytest.importorskip("matplotlib")
  names = "inference,naive_interpolation,inference_curve"
  words = [f"--workdir={anchors_folder}", f"--out={tmp_path / 'out'}", f"--only={names}"]
  assert cli.dispatch(["figures", *words, "--num_clips=2", "--curve_clips=8", "--samples=2"]) == 0
  files = {"figures.json", "inference.png", "inference_curve.json", "inference_curve.png", "naive_interpolation.png"}
  assert {path.name for path in (tmp_path / "out").iterdir()} == files
  report = json.loads((tmp_path / "out" / "inference_curve.json").read_text())
  assert (report["num_clips"], report["num_anchors"], report["samples"]) == (8, 2, 2)
  # The first phase ends after two of four steps.
  assert (report["step"], report["naive_interpolation_step"]) == (4, 2)
  assert report["best_of"]["2"] >= report["best_of"]["1"] > 0
  assert 0 < report["deterministic"] < 80 and 0 < report["naive_interpolation"] < 80


def test_models_with_fixed_conditioning_frames_draw_none(run_folder, vidgen, tmp_path):
  words = ["figures", f"--workdir={run_folder}", f"--out={tmp_path / 'out'}", "--only=inference", "--num_clips=1"]
  assert "--only=inference: this model has none of these figures" in vidgen(*words)
  assert list(tmp_path.iterdir()) == []
