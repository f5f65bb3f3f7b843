"""Content distance by hand."""

import numpy as np

from vidgen_jax.scores.metrics.content_distance import average_content_distance, mean_colour


def test_by_hand():
  # Mean colours: frame 0 black, frame 1 (6, 8, 0), frame 2 half black and half (12, 16, 0), mean (6, 8, 0).
  # Distances 10, 10, 0: mean 20/3. The other clip never changes.
  video = np.zeros((2, 3, 2, 2, 3), np.uint8)
  video[0, 1] = (6, 8, 0)
  video[0, 2, 0] = (12, 16, 0)
  video[1] = 200
  np.testing.assert_allclose(average_content_distance(video), [20 / 3, 0])
  np.testing.assert_allclose(mean_colour(video)[0, 2], [6, 8, 0])


def test_any_embedding():
  video = np.zeros((1, 3, 2, 2, 3), np.uint8)
  distance = average_content_distance(video, embed=lambda v: np.array([[[0.0], [1.0], [3.0]]]))
  np.testing.assert_allclose(distance, [2.0])  # 1, 3, 2
