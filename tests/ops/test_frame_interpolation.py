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


@pytest.mark.parametrize(("motion", "tolerance"), [((4.0, -4.0), 1e-3), ((3.0, 1.5), 0.12)])
def test_a_translating_pattern_is_interpolated(motion, tolerance):
  motion = np.array(motion)
  shares = np.array([0.25, 0.5, 0.75], np.float32)
  first, last = _texture(0, 0), _texture(*motion)
  found = np.asarray(interpolate_frames(first, last, _flow(*motion), _flow(*-motion), shares))
  expected = np.stack([_texture(*share * motion) for share in shares], axis=1)
  inner = np.s_[:, :, 4:-4, 4:-4]
  # Exact at whole pixels; in between, splatting smooths, as linear interpolation does.
  np.testing.assert_allclose(found[inner], expected[inner], atol=tolerance)
  fade = np.stack([(1 - share) * first + share * last for share in shares], axis=1)
  assert np.abs(fade[inner] - expected[inner]).max() > 8 * tolerance


def test_a_moving_object_hides_the_background():
  """A square moves eight pixels to the right over a texture; both flows are known."""
  background = 0.5 * _texture(0, 0)

  def scene(left):
    image, flow = background.copy(), np.zeros((1, SIZE, SIZE, 2), np.float32)
    image[:, 8:14, left : left + 6], flow[:, 8:14, left : left + 6, 0] = 1.0, 8.0
    return image, flow

  (first, forward), (last, backward) = scene(4), scene(12)
  found = np.asarray(interpolate_frames(first, last, forward, -backward, np.array([0.25, 0.5], np.float32)))
  for frame, left in zip(found[0], (6, 8), strict=True):
    np.testing.assert_allclose(frame, scene(left)[0][0], atol=0.15)


def test_without_motion_the_images_are_blended():
  first, last, still = _texture(0, 0), _texture(2, 1), _flow(0, 0)
  (frame,) = np.asarray(interpolate_frames(first, first, still, still, np.array([0.3], np.float32)))[0]
  np.testing.assert_allclose(frame, first[0], atol=1e-5)
  # Everything leaves both images.
  away = _flow(100, 0)
  (frame,) = np.asarray(interpolate_frames(first, last, away, away, np.array([0.25], np.float32)))[0]
  np.testing.assert_allclose(frame, 0.75 * first[0] + 0.25 * last[0], atol=1e-5)
