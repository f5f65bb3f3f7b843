"""Pooling, cropping and choosing frames, by hand and by loops."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops import resampling


def _addresses(batch: int, frames: int, height: int, width: int) -> jax.Array:
  """Clips in which each pixel's value is its own place: 1000 frame + 10 row + column."""
  t, i, j = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
  clip = (1000 * t + 10 * i + j).astype(np.float32)[None, ..., None]
  return jnp.asarray(np.repeat(clip, batch, axis=0))


def test_average_pool_by_hand():
  image = jnp.array([[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 7.0, 8.0]]).reshape(1, 1, 2, 4, 1)
  np.testing.assert_array_equal(resampling.average_pool(image, 2), np.reshape([2.5, 6.5], (1, 1, 1, 2, 1)))


def test_average_pool_raises_for_a_remainder():
  with pytest.raises(ValueError, match="width=3"):
    resampling.average_pool(jnp.zeros((1, 1, 2, 3, 1)), 2)


def test_average_pool_time_by_hand_drops_the_remainder():
  clip = jnp.array([1.0, 3.0, 10.0, 20.0, 99.0]).reshape(1, 5, 1, 1, 1)
  np.testing.assert_array_equal(resampling.average_pool_time(clip, 2)[0, :, 0, 0, 0], [2.0, 15.0])


def test_average_pool_time_needs_one_window():
  with pytest.raises(ValueError, match="at least factor=2 frames, got frames=1"):
    resampling.average_pool_time(jnp.zeros((1, 1, 2, 2, 1)), 2)


def test_upsample_nearest_repeats_pixels():
  images = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
  expected = images.repeat(2, axis=2).repeat(2, axis=3)
  np.testing.assert_array_equal(resampling.upsample_nearest(jnp.asarray(images), 2), expected)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 7), (3, 2)])
def test_adaptive_max_pool_against_a_loop(height, width):
  images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
  expected = np.full((2, 4, 4, 3), np.nan, np.float32)
  for i in range(4):
    for j in range(4):
      rows = range(math.floor(i * height / 4), math.ceil((i + 1) * height / 4))
      columns = range(math.floor(j * width / 4), math.ceil((j + 1) * width / 4))
      for b in range(2):
        for c in range(3):
          expected[b, i, j, c] = max(images[b, y, x, c] for y in rows for x in columns)
  np.testing.assert_array_equal(resampling.adaptive_max_pool(jnp.asarray(images), 4), expected)


def test_a_crop_is_one_window_for_all_frames():
  crops = np.asarray(resampling.random_crop(jax.random.key(0), _addresses(8, 3, 6, 7), (2, 4)))
  assert crops.shape == (8, 3, 2, 4, 1)
  for crop in crops[..., 0]:
    row, column = divmod(int(crop[0, 0, 0]), 10)
    np.testing.assert_array_equal(crop, _addresses(1, 3, 6, 7)[0, :, row : row + 2, column : column + 4, 0])


def test_crop_positions_are_uniform():
  crops = resampling.random_crop(jax.random.key(0), _addresses(6000, 1, 4, 4), (3, 2))
  places = Counter(np.asarray(crops[:, 0, 0, 0, 0]).astype(int).tolist())
  # Rows 0 and 1, columns 0 to 2: six places, 1000 draws each; five standard deviations are 144.
  assert sorted(places) == [0, 1, 2, 10, 11, 12]
  assert all(abs(count - 1000) < 144 for count in places.values())


def test_a_full_size_crop_is_the_clip_and_a_larger_one_raises():
  clips = _addresses(2, 2, 3, 3)
  np.testing.assert_array_equal(resampling.random_crop(jax.random.key(0), clips, (3, 3)), clips)
  with pytest.raises(ValueError, match="does not fit"):
    resampling.random_crop(jax.random.key(0), clips, (4, 3))


def test_frames_are_drawn_uniformly_in_order_and_without_repetition():
  video = jnp.broadcast_to(jnp.arange(5.0).reshape(1, 5, 1, 1, 1), (5000, 5, 1, 1, 1))
  chosen = np.asarray(resampling.random_frames(jax.random.key(0), video, 2))[..., 0, 0, 0].astype(int)
  sets = Counter(map(tuple, chosen.tolist()))
  # The ten increasing pairs, 500 draws each; five standard deviations are 106.
  assert sorted(sets) == [(a, b) for a in range(5) for b in range(a + 1, 5)]
  assert all(abs(count - 500) < 106 for count in sets.values())


def test_drawing_all_frames_and_too_many():
  clips = _addresses(2, 3, 2, 2)
  np.testing.assert_array_equal(resampling.random_frames(jax.random.key(0), clips, 3), clips)
  with pytest.raises(ValueError, match="4 distinct frames from clips of 3"):
    resampling.random_frames(jax.random.key(0), clips, 4)
