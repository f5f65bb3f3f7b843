"""Conditioning frames from evaluation clips, the user's videos and images, for several classes or none."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.strips import random_video, save_strip
from vidgen_jax.data import transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.transforms import FrameEncoding, resize_smallest_side
from vidgen_jax.errors import UserError
from vidgen_jax.runs.sampling.clips import Clips, ClipSpec, empty_clips, evaluation_clips, image_clip, video_clips

pytest_plugins = ("tests.trained_runs",)

DATA = DataConfig(name="none", num_frames=5, resolution=16)
STRIDED = DataConfig(name="none", num_frames=5, resolution=16, frame_stride=2)


@pytest.mark.parametrize("known", [True, False])
def test_clips_are_repeated_for_every_class(known):
  video = np.random.default_rng(0).integers(256, size=(2, 3, 4, 4, 3), dtype=np.uint8)
  clips = Clips(conditioning=video[:, :1], truth=video if known else None, label=np.array([7, 8], np.int32))
  found = clips.of_classes([2, 0, 1])
  assert found.label.tolist() == [2, 2, 0, 0, 1, 1]
  assert found.label.dtype == np.int32
  np.testing.assert_array_equal(found.conditioning, video[[0, 1, 0, 1, 0, 1], :1])
  assert (found.truth is not None) == known
  if known:
    np.testing.assert_array_equal(found.truth, video[[0, 1, 0, 1, 0, 1]])


def test_empty_clips_have_no_frames():
  clips = empty_clips(DataConfig(name="none", num_frames=5, resolution=16, channels=1), num_clips=3)
  assert (clips.conditioning.shape, clips.conditioning.dtype) == ((3, 0, 16, 16, 1), np.uint8)
  assert (clips.label.tolist(), clips.truth, len(clips)) == ([0, 0, 0], None, 3)


@pytest.mark.parametrize(
  ("framing", "columns"),
  [({}, [4, 8, 4]), ({"resize": "none"}, [0, 16, 0]), ({"resize": "squash", "resize_to": 48}, [0, 16, 0])],
)
def test_a_wide_video_is_cropped_to_its_center_and_strided(tmp_path, framing, columns):
  # Thirds of 16 pixels, red, green and blue: the centre of 32 pixels, halved, has 4 red, 8 green and 4 blue columns;
  # the centre of 16 pixels is green.
  colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
  wide = np.broadcast_to(colours.repeat(16, axis=0)[None], (32, 48, 3))
  frames = [Image.fromarray((wide // (index + 1)).astype(np.uint8)) for index in range(4)]
  path = tmp_path / "wide.gif"
  frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=100)
  found = video_clips(path, ClipSpec(dataclasses.replace(STRIDED, **framing), 5, (0, 1)), num_clips=1)
  assert found.truth is None  # only frames 0 and 2 exist
  expected = colours.repeat(columns, axis=0)
  np.testing.assert_array_equal(found.conditioning[0, 0], np.broadcast_to(expected, (16, 16, 3)))
  np.testing.assert_array_equal(found.conditioning[0, 1], np.broadcast_to(expected // 3, (16, 16, 3)))


def test_the_readable_videos_of_a_folder_are_used_in_order(tmp_path):
  videos = {"a/one.png": random_video(4, seed=1), "b.png": random_video(9, seed=2), "c.png": random_video(9, seed=3)}
  (tmp_path / "a").mkdir()
  for name, video in videos.items():
    save_strip(tmp_path / name, video)
  (tmp_path / "a" / "broken.mp4").write_bytes(b"no video at all")
  (tmp_path / "a" / "empty.avi").write_bytes(b"")
  save_strip(tmp_path / "a" / "short.png", random_video(1))
  found = video_clips(tmp_path, ClipSpec(DATA, 5, (0, 1)), num_clips=2)
  np.testing.assert_array_equal(found.conditioning, np.stack([videos[name][:2] for name in ("a/one.png", "b.png")]))
  assert found.truth is None  # the first has four frames
  longer = video_clips(tmp_path, ClipSpec(DATA, 4, (0, 1)), num_clips=8)
  assert longer.truth.shape == (3, 4, 16, 16, 3)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("v.mp4", b"nothing", "v.mp4 cannot be used: corrupt or not a video"),
    ("v.mp4", b"", "v.mp4 cannot be used: empty file"),
    ("folder/v.mp4", b"nothing", "folder contains no readable video of at least 2 frames"),
    ("", b"", "does not exist; give a video file, a frame strip or a folder of them"),
  ],
)
def test_unreadable_input_is_one_line_of_error(name, content, message, tmp_path):
  path = tmp_path / (name or "missing.mp4")
  if name:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
  source = path.parent if "/" in name else path
  with pytest.raises(UserError, match=message):
    video_clips(source, ClipSpec(DATA, 5, (0, 1)), num_clips=2)


def test_truth_is_unknown_if_all_clips_of_the_data_set_are_shorter(run_config):
  whole = evaluation_clips(ClipSpec(run_config.data, 32, (0, 1)), num_clips=2)
  assert whole.truth.shape == (2, 32, 16, 16, 3)
  np.testing.assert_array_equal(whole.conditioning, whole.truth[:, :2])
  beyond = evaluation_clips(ClipSpec(run_config.data, 33, (0, 1)), num_clips=2)
  assert beyond.truth is None
  assert beyond.conditioning.shape == (2, 2, 16, 16, 3)


def test_evaluation_clips_must_contain_the_last_conditioning_frame(run_config):
  ends = evaluation_clips(ClipSpec(run_config.data, 32, (0, 31)), num_clips=2)
  np.testing.assert_array_equal(ends.conditioning, ends.truth[:, [0, 31]])
  with pytest.raises(UserError, match="has no clip of 33 frames in split 'test'"):
    evaluation_clips(ClipSpec(run_config.data, 33, (0, 32)), num_clips=2)
  nothing = evaluation_clips(ClipSpec(run_config.data, 33, ()), num_clips=2)
  assert (nothing.conditioning.shape, nothing.truth, len(nothing)) == ((2, 0, 16, 16, 3), None, 2)


def test_conditioning_frames_up_to_the_last_are_spread_over_the_video(tmp_path, caplog):
  caplog.set_level("INFO")
  lengths = (1, 2, 8, 9, 12)
  for length in lengths:
    save_strip(tmp_path / f"{length:02d}.png", random_video(length, seed=length))
  ends = video_clips(tmp_path, ClipSpec(STRIDED, 5, (0, 4)), num_clips=8)
  np.testing.assert_array_equal(ends.conditioning, [random_video(n, seed=n)[[0, -1]] for n in lengths[1:]])
  assert ends.truth is None
  assert "01.png: it has 1 frames, at least 2 are needed" in caplog.text
  for n in lengths[1:]:
    assert f"{n:02d}.png: conditioning frames 0, {n - 1} of {n}" in caplog.text
  # Every second one of nine frames gives the clip of five; for other lengths the frames between are unknown.
  exact = video_clips(tmp_path / "09.png", ClipSpec(STRIDED, 5, (0, 4)), num_clips=1)
  np.testing.assert_array_equal(exact.truth, random_video(9, seed=9)[None, ::2])
  np.testing.assert_array_equal(exact.conditioning, exact.truth[:, [0, 4]])
  # Frames between the ends keep their relative position: 2 / 4 of 11.
  middle = video_clips(tmp_path / "12.png", ClipSpec(STRIDED, 5, (0, 2, 4)), num_clips=1)
  np.testing.assert_array_equal(middle.conditioning, random_video(12, seed=12)[None, [0, 6, 11]])


def test_videos_must_contain_the_last_conditioning_frame(tmp_path, caplog):
  caplog.set_level("INFO")
  for length in (8, 9, 12):
    save_strip(tmp_path / f"{length:02d}.png", random_video(length, seed=length))
  # Frames 0, 2, ..., 8 are the clip: seven frames are needed for its frame 3, one without conditioning frames.
  inner = video_clips(tmp_path, ClipSpec(STRIDED, 5, (0, 3)), num_clips=3)
  assert inner.truth is None  # of eight frames
  np.testing.assert_array_equal(inner.conditioning, [random_video(n, seed=n)[[0, 6]] for n in (8, 9, 12)])
  assert "12.png: conditioning frames 0, 6 of 12" in caplog.text
  longer = video_clips(tmp_path / "12.png", ClipSpec(STRIDED, 5, (0, 3)), num_clips=1)
  np.testing.assert_array_equal(longer.truth, random_video(12, seed=12)[None, :9:2])
  with pytest.raises(UserError, match=r"08\.png cannot be used: it has 8 frames, at least 9 are needed"):
    video_clips(tmp_path / "08.png", ClipSpec(STRIDED, 6, (0, 4)), num_clips=1)
  with pytest.raises(UserError, match="contains no readable video of at least 13 frames"):
    video_clips(tmp_path, ClipSpec(STRIDED, 8, (0, 6)), num_clips=3)
  nothing = video_clips(tmp_path, ClipSpec(STRIDED, 5, ()), num_clips=3)
  assert (nothing.conditioning.shape, nothing.truth, len(nothing)) == ((3, 0, 16, 16, 3), None, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_cropped_and_resized_like_frames_of_a_video(channels, tmp_path, caplog):
  caplog.set_level("INFO")
  wide = np.random.default_rng(1).integers(256, size=(32, 48, 3), dtype=np.uint8)
  Image.fromarray(wide).save(tmp_path / "wide.png")
  high = np.random.default_rng(2).integers(256, size=(50, 21, 3), dtype=np.uint8)
  Image.fromarray(high).save(tmp_path / "high.bmp")
  exact = random_video(1)[0]
  Image.fromarray(exact).save(tmp_path / "exact.png")
  data = DataConfig(name="none", num_frames=5, resolution=16, channels=channels)
  names = ["wide.png", "high.bmp", "exact.png"]
  found = image_clip([tmp_path / name for name in names], ClipSpec(data, 5, (0, 2, 4)))
  assert (found.conditioning.shape, found.conditioning.dtype) == ((1, 3, 16, 16, channels), np.uint8)
  assert (found.truth, found.label.tolist()) == (None, [0])
  for name, conditioning in zip(names, found.conditioning[0], strict=True):
    with Image.open(tmp_path / name) as image:
      frame = FrameEncoding(encoding="png").encode(resize_smallest_side(image, 16))
    expected = transforms.decode_squares([frame], resolution=16, channels=channels)
    np.testing.assert_array_equal(conditioning, expected[0])
  if channels == 3:
    # The centre 32 columns, as means of 2 x 2 pixels.
    means = wide[:, 8:40].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found.conditioning[0, 0], means, atol=0.51)
    np.testing.assert_array_equal(found.conditioning[0, 2], exact)
  assert "wide.png, 48x32, smallest side 16, centre crop" in caplog.text
  assert "high.bmp, 21x50, smallest side 16, centre crop" in caplog.text
  assert "exact.png, 16x16, unchanged" in caplog.text


@pytest.mark.parametrize(
  ("count", "conditioning_indices", "message"),
  [
    (1, (0, 4), "got 1 image, the model needs 2: frames 0, 4 of 5, counted from 0, in this order"),
    (3, (0, 4), "got 3 images, the model needs 2: frames 0, 4 of 5"),
    (0, (0,), "got 0 images, the model needs 1: frame 0 of 5"),
    (1, (), "the model generates from noise; leave the flag out"),
  ],
)
def test_the_number_of_images_must_be_that_of_the_conditioning_frames(count, conditioning_indices, message):
  with pytest.raises(UserError, match=message):
    image_clip(["missing.png"] * count, ClipSpec(DATA, 5, conditioning_indices))
