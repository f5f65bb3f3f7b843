"""Best-of-l curves of clips, against all samples at once."""

import json

import numpy as np
import pytest

from vidgen_jax.runs.figures.stochasticity import BEST_OF_FILES, Stochasticity, score_clips
from vidgen_jax.scores.metrics.psnr import frame_psnr
from vidgen_jax.scores.metrics.ssim import frame_ssim

TRUTH = np.random.default_rng(0).integers(256, size=(3, 4, 12, 12, 1), dtype=np.uint8)
NOISE = np.random.default_rng(1).integers(-60, 60, size=(5, *TRUTH.shape))
SAMPLES = np.clip(TRUTH + NOISE, 0, 255).astype(np.uint8)


def measured(samples, conditioning_indices):
  curves = Stochasticity(TRUTH, conditioning_indices, samples=len(samples), batch_size=2)
  for sample in samples:
    # One more clip than measured; it is ignored.
    curves.add(np.concatenate([sample, sample[:1]]))
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


def test_files_contain_origin_and_curves(tmp_path):
  pytest.importorskip("matplotlib")
  curves = measured(SAMPLES[:2], (0,))
  curves.save(tmp_path, {"step": 7})
  assert sorted(path.name for path in tmp_path.iterdir()) == sorted(BEST_OF_FILES)
  assert json.loads((tmp_path / "best_of_ssim.json").read_text()) == {"step": 7} | curves.report()


def test_scores_do_not_depend_on_the_batch_size():
  parts, whole = (score_clips(SAMPLES[0], TRUTH, (0,), batch_size=size, tracking=True) for size in (2, 3))
  assert parts.keys() == whole.keys()
  assert "presence" in whole
  for name, values in whole.items():
    np.testing.assert_allclose(parts[name], values, rtol=1e-6)
