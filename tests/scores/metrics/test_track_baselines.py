"""Positions on straight lines, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.scores.metrics.baselines import linear_extrapolation, linear_interpolation, track_baselines
from vidgen_jax.scores.metrics.trajectory import Track

_UNKNOWN = (99.0, 99.0)


def _track(*places, missing=()) -> Track:
  """One clip's track; `missing` are indices."""
  presence = [[frame not in missing for frame in range(len(places))]]
  return Track(jnp.array([places], jnp.float32), jnp.array(presence))


def test_extrapolation_by_hand():
  # Velocity (1, 2) of the last two frames; the first frame does not count.
  track = _track((0, 0), (2, 2), (3, 4), _UNKNOWN, _UNKNOWN)
  found = linear_extrapolation(track, (0, 1, 2))
  np.testing.assert_array_equal(found.centroid, [[[0, 0], [2, 2], [3, 4], [4, 6], [5, 8]]])
  assert found.presence.all()
  for missing in (1, 2):
    lost = linear_extrapolation(track._replace(presence=track.presence.at[0, missing].set(False)), (0, 1, 2))
    assert lost.presence.tolist() == [[True, missing != 1, missing != 2, False, False]]


def test_interpolation_by_hand():
  # From (0, 4) in frame 1 to (6, 1) in frame 4 in three steps of (2, -1), then to (8, 1) in two of (1, 0).
  track = _track(_UNKNOWN, (0, 4), _UNKNOWN, _UNKNOWN, (6, 1), _UNKNOWN, (8, 1), _UNKNOWN)
  found = linear_interpolation(track, (1, 4, 6))
  expected = [[0, 4], [0, 4], [2, 3], [4, 2], [6, 1], [7, 1], [8, 1], [8, 1]]
  np.testing.assert_allclose(found.centroid, [expected], atol=1e-6)
  assert found.presence.all()
  lost = linear_interpolation(track._replace(presence=track.presence.at[0, 4].set(False)), (1, 4, 6))
  assert lost.presence.tolist() == [[True, True, False, False, False, False, True, True]]


def test_baseline_fits_the_conditioning_frames():
  track = _track((0, 0), (2, 2), (3, 4), (4, 6), (5, 11))
  for indices, name, baseline in [
    ((0, 1, 2), "linear_extrapolation", linear_extrapolation),
    ((0, 2), "linear_interpolation", linear_interpolation),
  ]:
    ((found, predicted),) = track_baselines(track, indices).items()
    assert found == name
    np.testing.assert_array_equal(predicted.centroid, baseline(track, indices).centroid)


@pytest.mark.parametrize("conditioning_indices", [(), (0,), (3,), (2, 3), (0, 1, 2, 3)])
def test_no_baseline_without_a_line(conditioning_indices):
  assert track_baselines(_track(*[(4, 4)] * 4), conditioning_indices) == {}
