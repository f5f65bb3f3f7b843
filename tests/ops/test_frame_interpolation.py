"""Frames between two images, with known motion."""

import numpy as np
import pytest

from vidgen_jax.ops.frame_interpolation import interpolate_frames

SIZE = 24


def _texture(dx, dy):
  """Smooth waves, moved by (dx, dy): float32 [1, SIZE, SIZE, 2]."""
  y, x = np.mgrid[:SIZE, :SIZE]
  x, y = x - dx, y - dy
  waves = [np.sin(0.9 * x + 0.4 * y), np.cos(0.7 * y - 0.3 * x)]
  return np.stack(waves, axis=-1)[None].astype(np.float32)


def _flow(dx, dy):
  return np.broadcast_to(np.array([dx, dy], np.float32), (1, SIZE, SIZE, 2))


@pytest.mark.parametrize(("motion", "tolerance"), [((4.0, 0.0), 1e-3), ((0.0, -3.0), 0.1)])
def test_a_translating_pattern_is_interpolated(motion, tolerance):
  """Up to the borders, where one of the images does not show the pattern."""
  motion = np.array(motion)
  shares = np.array([0.25, 0.5, 0.75], np.float32)
  first, last = _texture(0, 0), _texture(*motion)
  found = np.asarray(interpolate_frames(first, last, _flow(*motion), _flow(*-motion), shares))
  expected = np.stack([_texture(*share * motion) for share in shares], axis=1)
  # Exact at whole pixels; in between, linear interpolation smooths.
  np.testing.assert_allclose(found, expected, atol=tolerance)
  fade = np.stack([(1 - share) * first + share * last for share in shares], axis=1)
  assert np.abs(fade - expected).max() > 4 * tolerance


def test_flows_of_both_directions_are_combined():
  """Eq. 4 by hand: at t = 1/4 the first image is sampled at -3/16 F01 + 1/16 F10, the last at 9/16 F01 - 3/16 F10."""
  ramp = np.broadcast_to(np.arange(SIZE, dtype=np.float32)[:, None], (1, SIZE, SIZE, 1))
  frames = interpolate_frames(ramp, 10 * ramp, _flow(0, 0), _flow(16, 0), np.array([0.25], np.float32))
  expected = 0.75 * (8 + 1) + 0.25 * 10 * (8 - 3)
  np.testing.assert_allclose(np.asarray(frames)[0, 0, :, 8, 0], expected, rtol=1e-5)


def test_images_are_blended_where_nothing_is_known():
  first, last, away = _texture(0, 0), _texture(2, 1), _flow(100, 0)
  (frame,) = np.asarray(interpolate_frames(first, last, away, -away, np.array([0.25], np.float32)))[0]
  # The borders of both images are repeated.
  np.testing.assert_allclose(frame, 0.75 * first[0, :, :1] + 0.25 * last[0, :, -1:] + 0 * frame, atol=1e-5)
