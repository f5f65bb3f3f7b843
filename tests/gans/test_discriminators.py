"""Inputs of discriminators: their number of pixels (TrIVD-GAN-FP, Table 1), and which pixels they contain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.discriminators import apply_view
from vidgen_jax.gans.trivd.algorithm import Trivd
from vidgen_jax.gans.trivd.config import (
  CROPPED_VIDEO,
  DECOMPOSITIONS,
  DOWNSAMPLED_FRAMES,
  DOWNSAMPLED_VIDEO,
  FRAMES,
  VIDEO,
  TrivdConfig,
)
from vidgen_jax.ops.video import to_model_range

T, H, W, K, S = 16, 64, 64, 8, 2


@pytest.mark.parametrize(
  ("name", "pixels"),
  [
    ("clip", 16 * 64 * 64),
    ("downsampled", 16 * 32 * 32),
    ("cropped", 16 * 32 * 32),
    ("cropped_downsampled", 2 * 16 * 32 * 32),
    ("mocogan_like", 8 * 64 * 64 + 16 * 64 * 64),
    ("dvd_gan_fp", 8 * 64 * 64 + 16 * 32 * 32),
    ("faster", (8 + 16) * 32 * 32),
    ("stronger", (8 + 16 + 16) * 32 * 32),
  ],
)
def test_pixels_per_clip(name, pixels):
  video = jax.ShapeDtypeStruct((2, T, H, W, 3), jnp.float32)
  total = 0
  for view in DECOMPOSITIONS[name]:
    cut = functools.partial(apply_view, view, first_frame=5, num_frames=K, factor=S)
    batch, frames, height, width, channels = jax.eval_shape(cut, video, jax.random.key(0)).shape
    assert (batch, channels) == (2, 3)
    assert view.pixels((T, H, W), num_frames=K, factor=S) == frames * height * width
    total += frames * height * width
  assert total == pixels


def test_pixels_of_one_frame_and_of_a_size_that_the_factor_does_not_divide():
  assert FRAMES.pixels((16, 64, 64), num_frames=1, factor=2) == 64 * 64
  assert CROPPED_VIDEO.pixels((5, 7, 9), num_frames=1, factor=3) == 5 * 2 * 3


def test_abbreviations_match_table_1():
  views = (FRAMES, DOWNSAMPLED_FRAMES, VIDEO, DOWNSAMPLED_VIDEO, CROPPED_VIDEO)
  assert [view.abbreviation for view in views] == ["F", "dF", "clV", "dV", "crV"]


def test_decompositions_match_table_1():
  assert {name: {view.abbreviation for view in views} for name, views in DECOMPOSITIONS.items()} == {
    "clip": {"clV"},
    "downsampled": {"dV"},
    "cropped": {"crV"},
    "cropped_downsampled": {"dV", "crV"},
    "mocogan_like": {"F", "clV"},
    "dvd_gan_fp": {"F", "dV"},
    "faster": {"dF", "crV"},
    "stronger": {"dF", "dV", "crV"},
  }


def test_discriminators_of_a_decomposition_have_distinct_names():
  for views in DECOMPOSITIONS.values():
    assert len({view.net for view in views}) == len(views)


def _coordinates(batch: int = 8) -> np.ndarray:
  """Clips [batch, 6, 4, 4, 1] whose pixels have the value 1000 frame + 10 row + column."""
  t, i, j = np.meshgrid(np.arange(6), np.arange(4), np.arange(4), indexing="ij")
  return np.repeat((1000.0 * t + 10 * i + j)[None, ..., None], batch, axis=0).astype(np.float32)


def _apply_view(view, seed: int = 0) -> np.ndarray:
  cut = functools.partial(apply_view, view, first_frame=2, num_frames=3, factor=2)
  return np.asarray(jax.jit(cut)(_coordinates(), jax.random.key(seed)))[..., 0]


def test_frames_are_full_size_and_drawn_from_the_predicted_frames():
  result = _apply_view(FRAMES)
  assert result.shape == (8, 3, 4, 4)
  chosen = result[:, :, 0, 0] / 1000
  np.testing.assert_array_equal(result, _coordinates()[np.arange(8)[:, None], chosen.astype(int), :, :, 0])
  assert chosen.min() >= 2
  assert np.all(np.diff(chosen, axis=1) > 0)
  assert len({tuple(row) for row in chosen}) > 1  # Drawn independently for each clip.


def test_downsampled_frames_are_local_means_of_frames():
  result, whole = _apply_view(DOWNSAMPLED_FRAMES), _apply_view(FRAMES)
  means = (whole[..., ::2, ::2] + whole[..., 1::2, ::2] + whole[..., ::2, 1::2] + whole[..., 1::2, 1::2]) / 4
  np.testing.assert_array_equal(result, means)


def test_a_full_video_is_unchanged():
  np.testing.assert_array_equal(_apply_view(VIDEO), _coordinates()[..., 0])


def test_a_downsampled_video_has_all_frames_and_no_randomness():
  result = _apply_view(DOWNSAMPLED_VIDEO)
  # The centre of a window at rows 2i, 2i + 1 and columns 2j, 2j + 1 is (2i + 0.5, 2j + 0.5).
  t, i, j = np.meshgrid(np.arange(6), np.arange(2), np.arange(2), indexing="ij")
  np.testing.assert_array_equal(result[3], 1000 * t + 20 * i + 5 + 2 * j + 0.5)
  np.testing.assert_array_equal(result, _apply_view(DOWNSAMPLED_VIDEO, seed=1))


def test_a_cropped_video_is_the_same_window_of_all_frames():
  result = _apply_view(CROPPED_VIDEO)
  assert result.shape == (8, 6, 2, 2)
  corners = set()
  for clip in result:
    row, column = divmod(int(clip[0, 0, 0]), 10)
    np.testing.assert_array_equal(clip, _coordinates()[0, :, row : row + 2, column : column + 2, 0])
    corners.add((row, column))
  assert len(corners) > 1  # Drawn independently for each clip.


@pytest.mark.parametrize("view", [FRAMES, CROPPED_VIDEO], ids=["frames", "crop"])
def test_another_key_draws_another_input(view):
  assert not np.array_equal(_apply_view(view, seed=0), _apply_view(view, seed=1))


@pytest.mark.parametrize("decomposition", ["clip", "cropped_downsampled", "mocogan_like", "faster"])
def test_views_of_real_and_fake_clips_are_drawn_independently(decomposition, monkeypatch):
  algorithm = Trivd(TrivdConfig(decomposition=decomposition, conditioning_frames=2, frames_per_clip=1))
  # Pixel values encode frame, row and column; all eight real and fake clips are equal.
  t, i, j = np.meshgrid(np.arange(4), np.arange(8), np.arange(8), indexing="ij")
  video = np.repeat((64 * t + 8 * i + j).astype(np.uint8)[None, ..., None], 8, axis=0)
  batch = {"video": jnp.asarray(video), "label": jnp.zeros(8, jnp.int32)}
  inputs = {}

  def discriminate(self, bound, label, name, videos):
    inputs[name] = [np.rint((np.asarray(video)[..., 0] + 1) * 127.5) for video in videos]
    return (jnp.zeros(1),) * len(videos), bound.nets[name]

  monkeypatch.setattr(Trivd, "generate", lambda *_, **__: (to_model_range(batch["video"]), {}))
  monkeypatch.setattr(Trivd, "_discriminate", discriminate)
  algorithm.discriminator_loss(dict.fromkeys(algorithm.networks()), {}, batch, jax.random.key(1), jnp.int32(0))
  whole, rows = video[..., 0], np.arange(8)
  for net, (real, fake) in inputs.items():
    firsts = [clips[:, 0, 0, 0].astype(int) for clips in (real, fake)]
    for clips, first in zip((real, fake), firsts, strict=True):
      frame, row, column = first // 64, first // 8 % 8, first % 8
      if net == "video_disc":
        np.testing.assert_array_equal(clips, whole)
      elif net == "frame_disc":
        assert set(frame) == {2, 3}  # The predicted frames.
        np.testing.assert_array_equal(clips[:, 0], whole[rows, frame])
      elif net == "cropped_video_disc":
        expected = [whole[b, :, y : y + 4, x : x + 4] for b, y, x in zip(rows, row, column, strict=True)]
        np.testing.assert_array_equal(clips, expected)
    if net in ("frame_disc", "cropped_video_disc"):
      assert np.any(firsts[0] != firsts[1])
      assert np.ptp(firsts[0]) > 0
  assert inputs.keys() == {view.net for view in algorithm.views}
