"""Windows of clips: choice of frames, cropping and mirroring."""

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data import transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.transforms import FrameEncoding
from vidgen_jax.errors import UserError

PNG = FrameEncoding(encoding="png")


def ramp_frames(num_frames, height, width):
  """Frame t: red is the row, green the column, blue t."""
  frames = []
  for t in range(num_frames):
    rows, columns = np.mgrid[:height, :width]
    frames.append(PNG.encode(Image.fromarray(np.stack([rows, columns, np.full_like(rows, t)], -1).astype(np.uint8))))
  return frames


def test_offset_positions_the_square():
  frames = ramp_frames(2, 4, 10)
  # A 4x4 square in 4x10 can move by 6 columns: 0 -> column 0, 0.5 -> column 3, 1 -> column 6.
  for offset, first in ((0.0, 0), (0.5, 3), (1.0, 6)):
    video = transforms.decode_squares(frames, resolution=4, offset=(0.3, offset))
    assert video.shape == (2, 4, 4, 3)
    assert video.dtype == np.uint8
    assert video[1, 0, :, 1].tolist() == [first, first + 1, first + 2, first + 3]
    assert video[:, :, 0, 0].tolist() == [[0, 1, 2, 3]] * 2


def test_resizing_before_the_crop():
  frames = ramp_frames(1, 8, 16)
  cut = lambda **options: transforms.decode_squares(frames, resolution=2, **options)[0, :, :, :2].tolist()
  # Not resized: rows 3, 4 and columns 7, 8.
  assert cut(mode="none") == [[[3, 7], [3, 8]], [[4, 7], [4, 8]]]
  # The smallest side is halved, 4x8, by means over 2x2 pixels: rows 2.5, 4.5, columns 6.5, 8.5, rounded up.
  assert cut(resize_to=4) == [[[3, 7], [3, 9]], [[5, 7], [5, 9]]]
  # Squashed to 8x8: a triangle filter over 4 columns, centred at 6.5 and 8.5; rows are not resized.
  assert cut(mode="squash", resize_to=8) == [[[3, 7], [3, 9]], [[4, 7], [4, 9]]]
  assert (
    cut(mode="squash", offset=(0.0, 0.0))
    == np.asarray(transforms.decode_frame(frames[0], channels=3).resize((2, 2), Image.Resampling.BILINEAR))[
      :, :, :2
    ].tolist()
  )


def test_a_crop_larger_than_the_frame_is_refused():
  with pytest.raises(UserError, match=r"data\.resolution=9 out of frames of 16x8 .*larger frames"):
    transforms.decode_squares(ramp_frames(1, 8, 16), resolution=9, mode="none")


def test_flip_mirrors_columns_of_every_frame():
  frames = ramp_frames(3, 4, 4)
  flipped = transforms.decode_squares(frames, resolution=4, flip=True)
  assert flipped[2, 1, :, 1].tolist() == [3, 2, 1, 0]
  assert flipped[:, 0, 0, 2].tolist() == [0, 1, 2]


def test_one_channel():
  assert transforms.decode_squares(ramp_frames(2, 4, 4), resolution=2, channels=1).shape == (2, 2, 2, 1)


def test_only_the_frames_of_the_window_are_decoded():
  config = DataConfig(name="x", num_frames=3, resolution=4, frame_stride=2)
  frames = ramp_frames(11, 4, 4)
  # The centre window of 5 frames in 11 begins at 3 and uses 3, 5, 7. The others cannot be decoded.
  broken = [data if index in (3, 5, 7) else b"not an image" for index, data in enumerate(frames)]
  record = transforms.evaluation_window({"frames": broken, "label": 1}, np.random.default_rng(0), config=config)
  assert record["video"][:, 0, 0, 2].tolist() == [3, 5, 7]
  assert record["label"] == 1
  assert record["label"].dtype == np.int32


def test_random_windows_reach_every_start_and_position():
  config = DataConfig(name="x", num_frames=2, resolution=4, frame_stride=3)
  record = {"frames": ramp_frames(7, 4, 6), "label": 0}
  generator = np.random.default_rng(0)
  starts, lefts = set(), set()
  for _ in range(100):
    video = transforms.random_window(record, generator, config=config)["video"]
    start, second = video[:, 0, 0, 2].tolist()
    assert second == start + 3
    starts.add(start)
    lefts.add(int(video[0, 0, 0, 1]))
  assert starts == {0, 1, 2, 3}
  assert lefts == {0, 1, 2}


def test_centre_crops_change_nothing_but_the_position():
  record = {"frames": ramp_frames(7, 4, 10), "label": 0}
  windows = {}
  for crop in ("random", "centre"):
    config = DataConfig(name="x", num_frames=2, resolution=4, train_crop=crop, random_flip=True)
    generator = np.random.default_rng(0)
    windows[crop] = [transforms.random_window(record, generator, config=config)["video"] for _ in range(20)]
  assert {min(video[0, 0, :, 1].tolist()) for video in windows["centre"]} == {3}
  for video, other in zip(windows["centre"], windows["random"], strict=True):
    np.testing.assert_array_equal(video[..., 2], other[..., 2])
    mirrored = [bool(window[0, 0, 0, 1] > window[0, 0, 1, 1]) for window in (video, other)]
    assert mirrored[0] == mirrored[1]


def test_flipping_mirrors_half_of_the_windows_only():
  record = {"frames": ramp_frames(6, 4, 8), "label": 0}
  videos = {}
  for flip in (False, True):
    config = DataConfig(name="x", num_frames=2, resolution=4, random_flip=flip)
    generator = np.random.default_rng(1)
    videos[flip] = [transforms.random_window(record, generator, config=config)["video"] for _ in range(60)]
  mirrored = 0
  for plain, other in zip(videos[False], videos[True], strict=True):
    if np.array_equal(other, plain[:, :, ::-1]):
      mirrored += 1
    else:
      np.testing.assert_array_equal(other, plain)
  # Binomial(60, 1/2): outside 15..45 with probability 1e-4; the seed is fixed.
  assert 15 <= mirrored <= 45


def test_evaluation_windows_at_the_start():
  config = DataConfig(name="x", num_frames=2, resolution=4, eval_window="start")
  record = {"frames": ramp_frames(6, 4, 4), "label": 0}
  video = transforms.evaluation_window(record, np.random.default_rng(0), config=config)["video"]
  assert video[:, 0, 0, 2].tolist() == [0, 1]


def test_evaluation_windows_at_random_times():
  config = DataConfig(name="x", num_frames=2, resolution=4, eval_window="random")
  record = {"frames": ramp_frames(6, 4, 4), "label": 0}
  starts = {
    int(transforms.evaluation_window(record, np.random.default_rng(seed), config=config)["video"][0, 0, 0, 2])
    for seed in range(40)
  }
  assert starts == {0, 1, 2, 3, 4}
