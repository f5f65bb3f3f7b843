"""Images of samples by hand; best-of-l curves against all samples at once."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.sheet_cells import read_cells
from vidgen_jax.data.config import DataConfig
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.figures.samples import BestOfCurves, draw_samples, score_clips
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import Sampler
from vidgen_jax.scores.metrics.psnr import frame_psnr
from vidgen_jax.scores.metrics.ssim import frame_ssim

TRUTH = np.random.default_rng(0).integers(256, size=(3, 4, 12, 12, 1), dtype=np.uint8)
NOISE = np.random.default_rng(1).integers(-60, 60, size=(5, *TRUTH.shape))
SAMPLES = np.clip(TRUTH + NOISE, 0, 255).astype(np.uint8)


def draw(folder, truth, samples, names, *, shown):
  """Draws figures of given samples [l, N, T, H, W, C], with all clips in curves; conditioned on the first frame."""
  drawn = iter(samples)
  sampler = Sampler(
    draw=lambda clips, key: next(drawn),
    batch_size=len(truth),
    conditioning_indices=(0,),
    num_frames=truth.shape[1],
    data=DataConfig(name="none", num_frames=truth.shape[1], resolution=truth.shape[2]),
  )
  clips = Clips(conditioning=truth[:, :1], truth=truth, label=np.zeros(len(truth), np.int32))
  inputs = FigureInputs(
    folder=folder,
    trained=SimpleNamespace(),
    sampler=sampler,
    shown=clips[:shown],
    measured=clips,
    samples=len(samples),
    seed=0,
  )
  draw_samples(inputs, frozenset(names))


def measured(samples, conditioning_indices):
  curves = BestOfCurves(TRUTH, conditioning_indices, samples=len(samples), batch_size=2)
  for sample in samples:
    curves.add(sample)
  return curves


@pytest.mark.parametrize(("conditioning_indices", "frames"), [((0,), [1, 2, 3]), ((0, 3), [1, 2])])
@pytest.mark.parametrize(("name", "metric"), [("ssim", frame_ssim), ("psnr", frame_psnr)])
def test_curves_are_those_of_all_samples_at_once(conditioning_indices, frames, name, metric):
  report = measured(SAMPLES, conditioning_indices).report()
  assert (report["frames"], report["num_clips"]) == (frames, 3)
  scores = np.stack([np.asarray(metric(sample[:, frames], TRUTH[:, frames])) for sample in SAMPLES])
  assert list(report[name]["best_of"]) == ["1", "2", "5"]
  for count, found in report[name]["best_of"].items():
    chosen = scores[: int(count)].mean(axis=2).argmax(axis=0)
    np.testing.assert_allclose(found, scores[chosen, np.arange(3)].mean(axis=0), rtol=1e-5)
  np.testing.assert_allclose(report[name]["mean_of_samples"], scores.mean(axis=(0, 1)), rtol=1e-5)


def test_the_simplest_guess_repeats_the_last_conditioning_frame():
  report = measured(SAMPLES[:1], (0,)).report()
  copies = np.repeat(TRUTH[:, :1], 3, axis=1)
  expected = np.asarray(frame_ssim(copies, TRUTH[:, 1:])).mean(axis=0)
  np.testing.assert_allclose(report["ssim"]["simplest_guess"], expected, rtol=1e-5)


def test_files_contain_origin_and_curves(tmp_path, monkeypatch):
  pytest.importorskip("matplotlib")
  monkeypatch.setattr(FigureInputs, "origin", {"step": 7})
  draw(tmp_path, TRUTH, SAMPLES[:2], {"best_of_ssim"}, shown=0)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["best_of_ssim.json", "best_of_ssim.png"]
  report = measured(SAMPLES[:2], (0,)).report()
  assert json.loads((tmp_path / "best_of_ssim.json").read_text()) == {"step": 7} | report


def test_scores_do_not_depend_on_the_batch_size():
  parts, whole = (score_clips(SAMPLES[0], TRUTH, (0,), batch_size=size, tracking=True) for size in (2, 3))
  assert parts.keys() == whole.keys()
  assert "presence" in whole
  for name, values in whole.items():
    np.testing.assert_allclose(parts[name], values, rtol=1e-6)


def test_first_sample_mean_and_deviation_of_the_first_clips(tmp_path):
  # One clip of two is shown; its pixels are 10 and 30: mean 20, deviation 10, which is scaled up to white.
  truth = np.full((2, 2, 64, 64, 1), 7, np.uint8)
  samples = [np.full_like(truth, value) for value in (10, 30)]
  draw(tmp_path, truth, samples, {"generated_over_original", "mean_of_samples"}, shown=1)
  shown, borders = read_cells(tmp_path / "generated_over_original.png", 2, 2)
  assert [np.unique(row).tolist() for row in shown] == [[10], [7]]
  assert (borders[:, 0] != borders[:, 1]).any()
  shown, _ = read_cells(tmp_path / "mean_of_samples.png", 3, 2)
  assert [np.unique(row).tolist() for row in shown] == [[10], [20], [255]]


def test_a_deviation_of_zero_is_black(tmp_path):
  video = np.full((1, 4, 64, 64, 1), 9, np.uint8)
  draw(tmp_path, video + 1, [video] * 3, {"mean_of_samples"}, shown=1)
  shown, _ = read_cells(tmp_path / "mean_of_samples.png", 3, 4)
  assert [np.unique(row).tolist() for row in shown] == [[9], [9], [0]]
