"""What each discriminator sees: numbers of pixels as in Table 1 of paper 004, and which pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.algorithms.decompositions import (
  CROPPED_VIDEO,
  DECOMPOSITIONS,
  DOWNSAMPLED_FRAMES,
  DOWNSAMPLED_VIDEO,
  FRAMES,
  look,
)

T, H, W, K, S = 16, 64, 64, 8, 2
SMALL = (H // S) * (W // S)


@pytest.mark.parametrize(
  ("name", "pixels"),
  [
    ("dvd_gan_fp", K * H * W + T * SMALL),
    ("faster", (K + T) * SMALL),
    ("stronger", (K + T + T) * SMALL),
  ],
)
def test_pixels_per_clip(name, pixels):
  video = jax.ShapeDtypeStruct((2, T, H, W, 3), jnp.float32)
  seen = 0
  for view in DECOMPOSITIONS[name]:
    cut = functools.partial(look, view, first_frame=5, num_frames=K, factor=S)
    batch, frames, height, width, channels = jax.eval_shape(cut, video, jax.random.key(0)).shape
    assert (batch, channels) == (2, 3)
    seen += frames * height * width
  assert seen == pixels


def test_discriminators_of_a_decomposition_have_names_of_their_own():
  for views in DECOMPOSITIONS.values():
    assert len({view.net for view in views}) == len(views)


def _places(batch: int = 8) -> np.ndarray:
  """[batch, 6, 4, 4, 1]; each pixel's value is 1000 frame + 10 row + column."""
  t, i, j = np.meshgrid(np.arange(6), np.arange(4), np.arange(4), indexing="ij")
  return np.repeat((1000.0 * t + 10 * i + j)[None, ..., None], batch, axis=0).astype(np.float32)


def _look(view, seed: int = 0) -> np.ndarray:
  cut = functools.partial(look, view, first_frame=2, num_frames=3, factor=2)
  return np.asarray(jax.jit(cut)(_places(), jax.random.key(seed)))[..., 0]


def test_frames_are_whole_and_drawn_from_the_predicted_ones():
  seen = _look(FRAMES)
  assert seen.shape == (8, 3, 4, 4)
  chosen = seen[:, :, 0, 0] / 1000
  np.testing.assert_array_equal(seen, _places()[np.arange(8)[:, None], chosen.astype(int), :, :, 0])
  assert chosen.min() >= 2
  assert np.all(np.diff(chosen, axis=1) > 0)
  assert len({tuple(row) for row in chosen}) > 1  # drawn for each clip


def test_downsampled_frames_are_means_of_whole_frames():
  seen, whole = _look(DOWNSAMPLED_FRAMES), _look(FRAMES)
  means = (whole[..., ::2, ::2] + whole[..., 1::2, ::2] + whole[..., ::2, 1::2] + whole[..., 1::2, 1::2]) / 4
  np.testing.assert_array_equal(seen, means)


def test_a_downsampled_video_holds_all_frames_and_nothing_random():
  seen = _look(DOWNSAMPLED_VIDEO)
  # The mean place of a window at rows 2i, 2i + 1 and columns 2j, 2j + 1 is (2i + 0.5, 2j + 0.5).
  t, i, j = np.meshgrid(np.arange(6), np.arange(2), np.arange(2), indexing="ij")
  np.testing.assert_array_equal(seen[3], 1000 * t + 20 * i + 5 + 2 * j + 0.5)
  np.testing.assert_array_equal(seen, _look(DOWNSAMPLED_VIDEO, seed=1))


def test_a_cropped_video_is_one_window_of_all_frames():
  seen = _look(CROPPED_VIDEO)
  assert seen.shape == (8, 6, 2, 2)
  corners = set()
  for clip in seen:
    row, column = divmod(int(clip[0, 0, 0]), 10)
    np.testing.assert_array_equal(clip, _places()[0, :, row : row + 2, column : column + 2, 0])
    corners.add((row, column))
  assert len(corners) > 1  # drawn for each clip


@pytest.mark.parametrize("view", [FRAMES, CROPPED_VIDEO], ids=["frames", "crop"])
def test_another_key_shows_something_else(view):
  assert not np.array_equal(_look(view, seed=0), _look(view, seed=1))
