"""Best of l samples, on scores small enough to see the answer."""

import numpy as np
import pytest

from vidgen_jax.metrics.best_of import BestOfSamples, best_of_samples

DIRECTIONS = {"psnr": True, "error": False}
SAMPLES = [
  {"psnr": [20.0, 31.0], "error": [1.0, 9.0]},
  {"psnr": [25.0, 30.0], "error": [2.0, 3.0]},
  {"psnr": [24.0, 29.0], "error": [6.0, 6.0]},
]


def test_each_metric_and_clip_chooses_its_own_sample():
  found = best_of_samples(lambda index: SAMPLES[index], 3, DIRECTIONS)
  np.testing.assert_array_equal(found.best["psnr"], [25.0, 31.0])
  np.testing.assert_array_equal(found.best["error"], [1.0, 3.0])
  np.testing.assert_allclose(found.mean["psnr"], [23.0, 30.0])
  np.testing.assert_allclose(found.mean["error"], [3.0, 6.0])
  assert found.num_samples == 3


def test_frames_are_chosen_by_the_mean_over_the_clip():
  # Clip 0: means 2 and 2.5, so the second sample's curve is kept whole, although its first frame is the worse one.
  kept = BestOfSamples({"psnr": True})
  kept.add({"psnr": [[3.0, 1.0], [5.0, 5.0]]})
  kept.add({"psnr": [[0.0, 5.0], [4.0, 4.0]]})
  np.testing.assert_array_equal(kept.result().best["psnr"], [[0.0, 5.0], [5.0, 5.0]])
  np.testing.assert_array_equal(kept.result().mean["psnr"], [[1.5, 3.0], [4.5, 4.5]])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_sample_without_score_loses(order):
  samples = [{"error": [np.nan, np.nan]}, {"error": [7.0, np.nan]}]
  found = best_of_samples(lambda index: samples[order[index]], 2, {"error": False})
  np.testing.assert_array_equal(found.best["error"], [7.0, np.nan])
  np.testing.assert_array_equal(found.mean["error"], [7.0, np.nan])


def test_only_scores_are_held():
  drawn = []

  def score(index):
    drawn.append(index)
    return SAMPLES[index]

  best_of_samples(score, 2, DIRECTIONS)
  assert drawn == [0, 1]


def test_misuse_is_named():
  with pytest.raises(ValueError, match="names no metric"):
    BestOfSamples({})
  with pytest.raises(ValueError, match="no sample"):
    BestOfSamples(DIRECTIONS).result()
  with pytest.raises(ValueError, match="num_samples"):
    best_of_samples(lambda index: SAMPLES[index], 0, DIRECTIONS)
  with pytest.raises(ValueError, match="expected scores"):
    BestOfSamples(DIRECTIONS).add({"psnr": [1.0]})
  kept = BestOfSamples({"psnr": True})
  kept.add({"psnr": [1.0, 2.0]})
  with pytest.raises(ValueError, match="changed shape"):
    kept.add({"psnr": [1.0]})
  with pytest.raises(ValueError, match=r"\[B\] or \[B, T\]"):
    kept.add({"psnr": np.zeros((1, 1, 1))})
