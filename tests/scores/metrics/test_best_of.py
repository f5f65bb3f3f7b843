"""Best of l samples, by hand and against numpy."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.best_of import BestOfSamples, curve_counts, mean_over_clips

DIRECTIONS = {"psnr": True, "error": False}
SAMPLES = [
  {"psnr": [20.0, 31.0], "error": [1.0, 9.0]},
  {"psnr": [25.0, 30.0], "error": [2.0, 3.0]},
  {"psnr": [24.0, 29.0], "error": [6.0, 6.0]},
]


def best_of(samples, directions):
  kept = BestOfSamples(directions)
  for scores in samples:
    kept.add(scores)
  return kept.result()


def test_each_metric_and_clip_selects_its_own_sample():
  found = best_of(SAMPLES, DIRECTIONS)
  np.testing.assert_array_equal(found.best["psnr"], [25.0, 31.0])
  np.testing.assert_array_equal(found.best["error"], [1.0, 3.0])
  np.testing.assert_allclose(found.mean["psnr"], [23.0, 30.0])
  np.testing.assert_allclose(found.mean["error"], [3.0, 6.0])
  assert found.num_samples == 3


def test_samples_are_selected_by_the_mean_over_the_clip():
  # Clip 0: means 2 and 2.5, so all frames of the second sample are kept, although its first frame is worse.
  kept = BestOfSamples({"psnr": True})
  kept.add({"psnr": [[3.0, 1.0], [5.0, 5.0]]})
  kept.add({"psnr": [[0.0, 5.0], [4.0, 4.0]]})
  np.testing.assert_array_equal(kept.result().best["psnr"], [[0.0, 5.0], [5.0, 5.0]])
  np.testing.assert_array_equal(kept.result().mean["psnr"], [[1.5, 3.0], [4.5, 4.5]])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_sample_without_score_loses(order):
  samples = [{"error": [np.nan, np.nan]}, {"error": [7.0, np.nan]}]
  found = best_of([samples[index] for index in order], {"error": False})
  np.testing.assert_array_equal(found.best["error"], [7.0, np.nan])
  np.testing.assert_array_equal(found.mean["error"], [7.0, np.nan])


def curves_of(scores):
  """The curve of the best of l samples by l, and the mean over samples and clips."""
  kept, best = BestOfSamples({"ssim": True}), {}
  for count, sample in enumerate(scores, start=1):
    kept.add({"ssim": sample})
    best[count] = mean_over_clips(kept.result().best["ssim"])
  return best, mean_over_clips(kept.result().mean["ssim"])


def test_curves_by_hand():
  # Two clips of two frames. Clip 0: means 2, 3, 1, so the second sample is the best of 2 and of 3, although the third
  # has the best single frame. Clip 1: means 4, 2, 5: the first is the best of 1 and of 2, the third the best of 3.
  samples = [[[3.0, 1.0], [4.0, 4.0]], [[2.0, 4.0], [1.0, 3.0]], [[0.0, 2.0], [9.0, 1.0]]]
  best, mean = curves_of(samples)
  np.testing.assert_array_equal(best[1], [3.5, 2.5])
  np.testing.assert_array_equal(best[2], [3.0, 4.0])
  np.testing.assert_array_equal(best[3], [5.5, 2.5])
  np.testing.assert_allclose(mean, [(3 + 2 + 0 + 4 + 1 + 9) / 6, (1 + 4 + 2 + 4 + 3 + 1) / 6])


def test_curves_equal_those_of_all_samples_at_once():
  scores = np.random.default_rng(0).normal(size=(20, 5, 4))
  best, mean = curves_of(scores)
  for count, found in best.items():
    chosen = scores[:count].mean(axis=2).argmax(axis=0)
    np.testing.assert_allclose(found, scores[chosen, np.arange(5)].mean(axis=0), rtol=1e-12)
  growing = [values.mean() for values in best.values()]
  assert (np.diff(growing) >= 0).all()
  assert growing[0] != growing[-1]
  np.testing.assert_allclose(mean, scores.mean(axis=(0, 1)), rtol=1e-12)


def test_curves_ignore_clips_without_score():
  best, _ = curves_of([[[1.0, np.nan], [np.nan, np.nan]]])
  np.testing.assert_array_equal(best[1], [1.0, np.nan])


@pytest.mark.parametrize(
  ("samples", "counts"),
  [
    (1, (1,)),
    (2, (1, 2)),
    (30, (1, 2, 5, 10, 20, 30)),
    (100, (1, 2, 5, 10, 20, 50, 100)),
    (200, (1, 2, 5, 10, 20, 50, 100, 200)),
  ],
)
def test_curve_counts(samples, counts):
  assert curve_counts(samples) == counts
