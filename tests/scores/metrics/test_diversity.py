"""Diversity by hand, against numpy, and one sample at a time against all samples at once."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.diversity import PixelDiversity, RunningSpread, pairwise_cosine_distance

VIDEOS = np.random.default_rng(0).integers(256, size=(7, 2, 3, 4), dtype=np.uint8)


def test_cosine_distance_by_hand():
  # Cosines of (1,0), (0,1), (-1,0): 0, -1, 0: mean distance 1 + 1/3. Lengths do not matter. Equal samples: 0.
  features = np.array([[[1.0, 0], [0, 5], [-2, 0]], [[1, 1], [2, 2], [3, 3]]])
  np.testing.assert_allclose(pairwise_cosine_distance(features), [4 / 3, 0], atol=1e-12)
  with pytest.raises(ValueError, match="not zero"):
    pairwise_cosine_distance(np.zeros((1, 2, 3)))


def test_spread_equals_numpy():
  spread = RunningSpread()
  for video in VIDEOS:
    spread.add(video)
  mean, deviation = spread.result()
  np.testing.assert_allclose(mean, VIDEOS.mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(deviation, VIDEOS.std(axis=0), rtol=1e-12)


def test_spread_of_a_single_array():
  spread = RunningSpread()
  spread.add(VIDEOS[0])
  mean, deviation = spread.result()
  np.testing.assert_array_equal(mean, VIDEOS[0])
  assert not deviation.any()


def test_pixel_diversity_equals_the_cosine_distance_of_all_samples():
  diversity = PixelDiversity()
  for video in VIDEOS:
    diversity.add(video)
  features = np.moveaxis(VIDEOS / 127.5 - 1, 0, 1).reshape(2, 7, 12)
  np.testing.assert_allclose(diversity.result(), pairwise_cosine_distance(features), rtol=1e-12)


def test_pixel_diversity_by_hand():
  # Two pixels in [-1, 1]. Clip 0: (-1, -1) and (1, 1), opposite: 1 - (-1) = 2. Clip 1: (-1, 1) and (1, 1), orthogonal:
  # 1. Clip 2: equal samples.
  diversity = PixelDiversity()
  diversity.add(np.array([[0, 0], [0, 255], [9, 200]], np.uint8))
  diversity.add(np.array([[255, 255], [255, 255], [9, 200]], np.uint8))
  np.testing.assert_allclose(diversity.result(), [2, 1, 0], atol=1e-12)
