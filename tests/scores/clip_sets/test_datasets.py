import dataclasses

import numpy as np
import pytest

from vidgen_jax.data import pipeline
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets import ClipOptions, open_clips


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, make):
  """Data set 'marked' with two classes: train clips 0..5, test clips 6..9; 10 frames each, 4 in clip 7."""
  root = tmp_path_factory.mktemp("marked")
  for clip in range(10):
    folder = root / "source" / ("train" if clip < 6 else "test") / f"class{clip % 2}"
    make.strip(folder / f"{clip}.png", make.clip(clip, 4 if clip == 7 else 10, height=12, width=12))
  build_video_folder(
    VideoFolderOptions(source=str(root / "source"), name="marked", data_dir=str(root / "built"), encoding="png")
  )
  return root / "built"


def test_the_clips_are_those_of_the_data_pipeline(data_dir):
  config = DataConfig(name="marked", data_dir=str(data_dir), num_frames=3, resolution=8, frame_stride=2)
  expected = next(pipeline.eval_batches(config, "test", batch_size=9, num_clips=None))
  options = ClipOptions(num_frames=3, resolution=8, frame_stride=2, window="centre")
  clips = open_clips("marked", options, data_dir=data_dir)
  np.testing.assert_array_equal(np.concatenate(list(clips.batches(2))), expected["video"])
  np.testing.assert_array_equal(clips.labels, expected["label"])
  assert (clips.class_names, clips.name) == (("class0", "class1"), "marked/test")


def test_windows_and_short_clips(data_dir, make):
  clips = open_clips("marked/test", ClipOptions(num_frames=5), data_dir=data_dir)
  found = {name: make.marks(clip) for name, clip in zip(clips.clip_names, next(clips.batches(9)), strict=True)}
  assert sorted(marks[0][0] for marks in found.values()) == [6, 8, 9]
  assert all([frame for _, frame in marks] == [0, 1, 2, 3, 4] for marks in found.values())
  (short,) = clips.skipped
  assert short[1] == "4 frames, 5 are needed; lower --num_frames"
  assert {short[0], *found} == {f"marked/test[{index}]" for index in range(4)}
  assert clips.clip_shape == (5, 12, 12, 3)


def test_whole_clips(data_dir):
  clips = open_clips("marked/train", ClipOptions(max_clips=4), data_dir=data_dir)
  assert (len(clips), clips.clip_shape, len(clips.labels)) == (4, (10, 12, 12, 3), 4)
  assert clips.clip_names != [f"marked/train[{index}]" for index in range(4)]
  assert (clips.facts["encoding"], clips.facts["fps"]) == (["png"], [])
  message = (
    r"--real=marked/test mixes lengths: marked/test\[0\] has \d+ frames, .* make them equal with --num_frames=N$"
  )
  with pytest.raises(UserError, match=message):
    open_clips("marked/test", ClipOptions(), data_dir=data_dir)


@pytest.mark.parametrize("path", ["nothing", "nothing/test", "/no/such/folder", "../up", "marked/test/deeper", "a.mp4"])
def test_neither_a_path_nor_a_data_set(data_dir, path):
  message = rf"^--fake={path} is neither a file or folder nor a data set NAME/SPLIT prepared in {data_dir}; see"
  with pytest.raises(UserError, match=message):
    open_clips(path, ClipOptions(), what="--fake", data_dir=data_dir)


def test_a_similar_name_is_suggested(data_dir):
  with pytest.raises(UserError, match=r"data set NAME/SPLIT prepared in .* \(did you mean marked\?\); see"):
    open_clips("Markd/test", ClipOptions(), data_dir=data_dir)


def test_an_unknown_split_is_reported_with_the_known_ones(data_dir):
  message = "data set marked has no split 'val'; give one of --real=marked/test, --real=marked/train$"
  with pytest.raises(UserError, match=message):
    open_clips("marked/val", ClipOptions(), data_dir=data_dir)


def test_a_data_set_of_short_clips_only(data_dir):
  message = r"--real=marked/train holds no usable clip: skipped 6, the first marked/train\[0\]: 10 frames"
  with pytest.raises(UserError, match=message):
    open_clips("marked/train", ClipOptions(num_frames=11), data_dir=data_dir)


def test_needed_frames_and_stop():
  options = ClipOptions(num_frames=3, frame_stride=4)
  assert (options.needed_frames, options.stop) == (9, 9)
  assert dataclasses.replace(options, window="centre").stop is None
  assert (ClipOptions().needed_frames, ClipOptions().stop) == (1, None)
