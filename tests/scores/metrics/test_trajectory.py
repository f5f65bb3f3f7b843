"""Position of an object and errors of tracks, by hand."""

import numpy as np

from vidgen_jax.scores.metrics.trajectory import (
  Track,
  centroid_error,
  object_centroid,
  penalised_centroid_error,
  presence,
)


def _square(places: list[tuple[int, int]], *, size: int = 24, side: int = 4, colour=(0, 0, 200)) -> np.ndarray:
  """uint8[1, T, size, size, 3]: a square whose first pixel is at these positions; (-1, -1) draws none."""
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
  specks = np.zeros((1, 2, 8, 8, 3), np.uint8)
  specks[0, 0, 0, :3] = specks[0, 1, 0, :4] = 255
  assert object_centroid(specks).presence.tolist() == [[False, True]]


def test_error_presence_and_penalty_by_hand():
  truth = _square([(4, 4), (4, 4), (4, 4), (-1, -1)], size=30)
  # Off by (3, 4): 5 px; exact: 0 px; missing; the last frame has no true object and does not count.
  prediction = _square([(7, 8), (4, 4), (-1, -1), (9, 9)], size=30)
  tracks = (object_centroid(prediction), object_centroid(truth), (30, 30))
  np.testing.assert_allclose(centroid_error(*tracks), [2.5], atol=1e-5)
  np.testing.assert_allclose(presence(*tracks), [2 / 3], atol=1e-6)
  # Half the diagonal of 30x30 is 15 sqrt(2) = 21.2132: (5 + 0 + 21.2132) / 3 = 8.7377.
  np.testing.assert_allclose(penalised_centroid_error(*tracks), [8.7377], atol=1e-4)


def test_nothing_to_compare_is_nan():
  empty, full = object_centroid(_square([(-1, -1)])), object_centroid(_square([(4, 4)]))
  lost = (empty, full, (24, 24))
  assert np.isnan(centroid_error(*lost)).all() and presence(*lost) == 0 and penalised_centroid_error(*lost) > 0
  for metric in (centroid_error, penalised_centroid_error, presence):
    assert np.isnan(metric(full, empty, (24, 24))).all()


def test_take_selects_frames_of_a_track():
  track = Track(np.arange(8.0).reshape(1, 4, 2), np.array([[True, False, True, True]]))
  taken = track.take(np.array([1, 3]))
  np.testing.assert_array_equal(taken.centroid, [[[2, 3], [6, 7]]])
  np.testing.assert_array_equal(taken.presence, [[False, True]])
