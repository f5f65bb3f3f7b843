"""Spread of samples: numpy's numbers, and those of the metric that has all samples at once."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.diversity import pairwise_cosine_distance
from vidgen_jax.scores.metrics.spread import PixelDiversity, RunningSpread

VIDEOS = np.random.default_rng(0).integers(256, size=(7, 2, 3, 4), dtype=np.uint8)


def test_spread_is_numpys():
  spread = RunningSpread()
  for video in VIDEOS:
    spread.add(video)
  np.testing.assert_allclose(spread.result().mean, VIDEOS.mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(spread.result().deviation, VIDEOS.std(axis=0), rtol=1e-12)


def test_a_single_array_is_its_mean_and_does_not_vary():
  spread = RunningSpread()
  spread.add(VIDEOS[0])
  np.testing.assert_array_equal(spread.result().mean, VIDEOS[0])
  assert not spread.result().deviation.any()


def test_diversity_is_that_of_all_samples_at_once():
  diversity = PixelDiversity()
  for video in VIDEOS:
    diversity.add(video)
  features = np.moveaxis(VIDEOS / 127.5 - 1, 0, 1).reshape(2, 7, 12)
  np.testing.assert_allclose(diversity.result(), pairwise_cosine_distance(features), rtol=1e-12)


def test_diversity_by_hand():
  # Two pixels in [-1, 1]. First clip: (-1, -1) and (1, 1), opposite: 1 - (-1) = 2. Second: (-1, 1) and (1, 1), at a
  # right angle: 1. Third: the same clip twice.
  diversity = PixelDiversity()
  diversity.add(np.array([[0, 0], [0, 255], [9, 200]], np.uint8))
  diversity.add(np.array([[255, 255], [255, 255], [9, 200]], np.uint8))
  np.testing.assert_allclose(diversity.result(), [2, 1, 0], atol=1e-12)


def test_misuse_is_named():
  with pytest.raises(ValueError, match="no array"):
    RunningSpread().result()
  spread = RunningSpread()
  spread.add(VIDEOS[0])
  with pytest.raises(ValueError, match=r"changed shape: \(2, 3, 4\), then \(2, 3\)"):
    spread.add(VIDEOS[0, ..., 0])
  with pytest.raises(TypeError, match="uint8"):
    PixelDiversity().add(VIDEOS[0].astype(float))
  diversity = PixelDiversity()
  diversity.add(VIDEOS[0])
  with pytest.raises(ValueError, match="at least two samples, got 1"):
    diversity.result()
