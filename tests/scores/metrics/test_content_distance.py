"""Content distance by hand."""

import numpy as np

from vidgen_jax.scores.metrics.content_distance import (
  average_content_distance,
  mean_colour,
  object_colour,
  object_content_distance,
)


def test_by_hand():
  # Mean colours: frame 0 black, frame 1 (6, 8, 0), frame 2 half black and half (12, 16, 0), mean (6, 8, 0).
  # Distances 10, 10, 0: mean 20/3. The other clip never changes.
  video = np.zeros((2, 3, 2, 2, 3), np.uint8)
  video[0, 1] = (6, 8, 0)
  video[0, 2, 0] = (12, 16, 0)
  video[1] = 200
  np.testing.assert_allclose(average_content_distance(video), [20 / 3, 0])
  np.testing.assert_allclose(mean_colour(video)[0, 2], [6, 8, 0])


def test_of_the_object_by_hand():
  # An object of 4 pixels moves, grows to 6 pixels and vanishes; its mean colours are (200, 0, 0), (200, 30, 40) and
  # none: distance 50. The mean colours of the frames depend on its size too.
  video = np.zeros((2, 3, 4, 4, 3), np.uint8)
  video[0, 0, :2, :2] = (200, 0, 0)
  video[0, 1, 1:3, :3] = (200, 30, 40)
  np.testing.assert_allclose(object_content_distance(video), [50, np.nan])
  np.testing.assert_allclose(object_colour(video)[0], [[200, 0, 0], [200, 30, 40], [np.nan] * 3])
  assert average_content_distance(video)[0] > 50


def test_edges_of_an_object_do_not_change_its_colour():
  # A square of 3x3 pixels that moves by half a pixel has two columns of half its colour.
  video = np.zeros((1, 2, 6, 6, 3), np.uint8)
  video[0, 0, 1:4, 1:4] = (200, 100, 40)
  video[0, 1, 1:4, 1:5] = (200, 100, 40)
  video[0, 1, 1:4, [1, 4]] = (100, 50, 20)
  np.testing.assert_allclose(object_colour(video)[0], [[200, 100, 40]] * 2, rtol=1e-6)


def test_any_embedding():
  video = np.zeros((1, 3, 2, 2, 3), np.uint8)
  distance = average_content_distance(video, embed=lambda v: np.array([[[0.0], [1.0], [3.0]]]))
  np.testing.assert_allclose(distance, [2.0])  # 1, 3, 2
