"""The object's place, on images whose answer is known by construction."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.trajectory import Track, centroid_error, compare_tracks, object_centroid


def _square(places: list[tuple[int, int]], *, size: int = 24, side: int = 4, colour=(0, 0, 200)) -> np.ndarray:
  """uint8[1, T, size, size, 3]: a square whose first pixel lies at each place; (-1, -1) draws none."""
  video = np.zeros((1, len(places), size, size, 3), np.uint8)
  for frame, (row, column) in enumerate(places):
    if row >= 0:
      video[0, frame, row : row + side, column : column + side] = colour
  return video


def test_centroid_of_a_blue_square():
  track = object_centroid(_square([(3, 10), (0, 0), (-1, -1)]))
  # A square of side 4 from pixel 3 covers 3..6: its middle is 4.5. Without an object: the middle of 0..23.
  np.testing.assert_allclose(track.centroid, [[[4.5, 11.5], [1.5, 1.5], [11.5, 11.5]]], atol=1e-5)
  np.testing.assert_array_equal(track.presence, [[True, True, False]])


def test_centroid_is_weighted_by_brightness():
  video = np.zeros((1, 1, 9, 9, 1), np.uint8)
  video[0, 0, 2:4, 2, 0], video[0, 0, 2:4, 6, 0] = 100, 200
  # Columns: (100 * 2 + 200 * 6) / 300 = 4.6667.
  np.testing.assert_allclose(object_centroid(video).centroid, [[[2.5, 14 / 3]]], atol=1e-5)


def test_thresholds():
  video = _square([(4, 4)] * 4)
  video[0, 0] = np.maximum(video[0, 0], 40)  # haze of 40 < 0.25 * 200 does not pull the centroid ...
  video[0, 1] = np.maximum(video[0, 1], 60)  # ... haze of 60 does.
  video[0, 2] //= 10  # Brightness 20 < 0.1 * 255 is no object ...
  video[0, 3] //= 7  # ... 28 is one.
  track = object_centroid(video)
  np.testing.assert_allclose(track.centroid[0, 0], [5.5, 5.5], atol=1e-5)
  assert np.linalg.norm(track.centroid[0, 1] - 5.5) > 3
  np.testing.assert_array_equal(track.presence, [[True, True, False, True]])
  specks = np.zeros((1, 1, 8, 8, 3), np.uint8)
  specks[0, 0, 0, :3] = 255
  assert not object_centroid(specks).presence.any()
  assert object_centroid(specks, min_pixels=3).presence.all()


def test_error_presence_and_penalty_by_hand():
  truth = _square([(4, 4), (4, 4), (4, 4), (-1, -1)], size=30)
  # Off by (3, 4): 5 px; exact: 0 px; missing; the last frame has no truth and does not count, whatever is predicted.
  score = centroid_error(_square([(7, 8), (4, 4), (-1, -1), (9, 9)], size=30), truth)
  np.testing.assert_allclose(score.error, [2.5], atol=1e-5)
  np.testing.assert_allclose(score.presence, [2 / 3], atol=1e-6)
  # Half the diagonal of 30x30 is 15 sqrt(2) = 21.2132: (5 + 0 + 21.2132) / 3 = 8.7377.
  np.testing.assert_allclose(score.penalised_error, [8.7377], atol=1e-4)


def test_nothing_to_compare_is_nan():
  empty, full = _square([(-1, -1)]), _square([(4, 4)])
  gone = centroid_error(empty, full)
  assert np.isnan(gone.error).all() and gone.presence == 0 and gone.penalised_error > 0
  assert all(np.isnan(value).all() for value in centroid_error(full, empty))


def test_misuse_is_named():
  with pytest.raises(TypeError, match="uint8"):
    object_centroid(np.zeros((1, 1, 8, 8, 3), np.float32))
  with pytest.raises(ValueError, match="B, T, H, W, C"):
    object_centroid(np.zeros((8, 8, 3), np.uint8))
  with pytest.raises(ValueError, match="threshold"):
    object_centroid(np.zeros((1, 1, 8, 8, 3), np.uint8), threshold=25.0)
  with pytest.raises(ValueError, match="differ in shape"):
    centroid_error(_square([(1, 1)]), _square([(1, 1)] * 2))


def test_compare_tracks_takes_tracks_without_images():
  here = Track(np.array([[[1.0, 1.0]]], np.float32), np.array([[True]]))
  there = Track(np.array([[[4.0, 5.0]]], np.float32), np.array([[True]]))
  np.testing.assert_allclose(compare_tracks(here, there, frame_size=(8, 8)).error, [5.0], atol=1e-6)
