"""Clips of videos, with hand-derived ranges."""

from pathlib import Path

import pytest

from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, clips_by_split, clips_of
from vidgen_jax.data.listing import SourceFile
from vidgen_jax.data.staging import Staged


def _file(**changes):
  return SourceFile(**{"path": "a.avi", "class_name": "x", "split": None, "stamp": ""} | changes)


def _clips(file, num_frames, cuts=(), parts=(), **changes):
  options = VideoFolderOptions(**{"source": "", "name": "x", "data_dir": "", "min_frames": 1} | changes)
  return clips_of(file, {"frames": num_frames, "cuts": cuts, "parts": parts}, options)


def test_a_video_is_one_clip_or_several_without_the_rest():
  assert _clips(_file(), 10) == [("a.avi", 0, 10)]
  for num_frames in (8, 10):
    assert _clips(_file(), num_frames, clip_frames=4) == [("a.avi", 0, 4), ("a.avi", 4, 8)]


@pytest.mark.parametrize("options", [{"min_frames": 11}, {"clip_frames": 11}])
def test_short_videos_give_no_clips(options):
  assert _clips(_file(), 10, **options) == []


def test_parts_are_cut_separately():
  assert _clips(_file(), 10, parts=((0, 5), (5, 10))) == [("a.avi", 0, 5), ("a.avi", 5, 10)]
  starts = [("a.avi", start, start + 2) for start in (0, 2, 5, 7)]
  assert _clips(_file(), 10, parts=((0, 5), (5, 10)), clip_frames=2) == starts
  assert _clips(_file(), 6, parts=((0, 5), (5, 6)), min_frames=2) == [("a.avi", 0, 5)]


def test_clips_of_one_file_are_named_by_their_index():
  file = _file(clips=(7, 10))
  assert _clips(file, 9, cuts=(2, 5)) == [("a.avi[7]", 0, 2), ("a.avi[8]", 2, 5), ("a.avi[9]", 5, 9)]
  assert _clips(file, 9, cuts=(2, 5), min_frames=3) == [("a.avi[8]", 2, 5), ("a.avi[9]", 5, 9)]
  assert file.identity == "a.avi[7:10]"


def _by_split(num_frames, **changes):
  file = _file()
  entry = Staged(file=file, cached=Path(), facts={"frames": num_frames, "cuts": (), "parts": ()})
  options = VideoFolderOptions(source="", name="x", data_dir="", split="time", **changes)
  return {split: [clip[1:] for _, clip in clips] for split, clips in clips_by_split(entry, options, {}).items()}


def test_a_video_is_divided_in_time():
  assert _by_split(100) == {"train": [(0, 80)], "test": [(80, 100)]}
  assert _by_split(103, clip_frames=10, test_fraction=0.3) == {
    "train": [(start, start + 10) for start in range(0, 70, 10)],
    "test": [(70, 80), (80, 90), (90, 100)],
  }
  assert _by_split(40, clip_frames=20, test_fraction=0.01) == {"train": [(0, 20)], "test": [(20, 40)]}
  assert _by_split(30, min_frames=16) == {"train": [(0, 30)]}
  assert _by_split(40, min_frames=16) == {"train": [(0, 24)], "test": [(24, 40)]}
  assert _by_split(100, test_fraction=0.0) == {"train": [(0, 100)]}
