"""KTH: people, actions, and the parts of a video that show a person."""

import numpy as np
import pytest

from tests.data.datasets.listings import PUBLISHED, build, clips_by_split, levels, listed, missing
from tests.data.datasets.miniatures import make_kth
from vidgen_jax.errors import UserError


@pytest.fixture
def kth(tmp_path):
  return make_kth(tmp_path / "kth")


def test_videos_are_cut_where_the_list_says(kth):
  info, manifest = build("kth", kth)
  # Frames 1-4 and 5-9 of ten; the existing frames of the part up to frame 20; 2-5 and 6-7 of the other video.
  assert {split: sorted(lengths.tolist()) for split, lengths in info.num_frames.items()} == {
    "train": [4, 5],
    "validation": [2, 4],
    "test": [8, 10],
  }
  assert info.class_names == ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
  clips = {entry["source"].split("/")[-1]: entry["clips"] for entry in manifest["sources"] if entry["status"] == "used"}
  assert clips["person01_handwaving_d1_uncomp.avi"] == 2
  assert clips["person17_walking_d1_uncomp.avi"] == 1  # not in the list: whole
  assert sum(entry["status"] == "skipped" for entry in manifest["sources"]) == 599 - 4


def test_frames_of_the_parts(kth):
  info, _ = build("kth", kth, "--split_rule=handwaving")
  assert info.class_names == ("handwaving",)
  assert dict(info.num_clips) == {"train": 2, "test": 1}
  first, second = levels(info, "train")
  np.testing.assert_allclose(first, [0, 20, 40, 60], atol=4)
  np.testing.assert_allclose(second, [80, 100, 120, 140, 160], atol=4)


def test_short_parts_are_skipped_and_long_ones_cut(kth):
  info, manifest = build("kth", kth, "--clip_frames=4")
  assert {split: sorted(lengths) for split, lengths in info.num_frames.items()} == {
    "train": [4, 4],
    "validation": [4],
    "test": [4, 4, 4, 4],
  }
  assert sum(entry.get("clips", 0) for entry in manifest["sources"]) == 7


def test_the_complete_kth_has_599_videos(kth):
  files = listed("kth", kth, "people")
  assert clips_by_split(files) == dict(PUBLISHED["kth"].split_rules["people"].num_videos)
  assert len(files) - len(missing(files)) == 4


def test_zip_files_and_unpacked_folders_are_one_data_set(kth, tmp_path):
  zipped, unpacked = listed("kth", kth), listed("kth", make_kth(tmp_path / "unpacked", zipped=False))
  for one, other in zip(zipped, unpacked, strict=True):
    assert (one.name, one.split, one.class_name, one.parts) == (other.name, other.split, other.class_name, other.parts)
  there = {file.name: file.path for file in zipped if file.name not in missing(zipped)}
  assert there == {
    "person01_handwaving_d1": "handwaving.zip/person01_handwaving_d1_uncomp.avi",
    "person16_boxing_d2": "boxing.zip/person16_boxing_d2_uncomp.avi",
    "person17_walking_d1": "walking.zip/person17_walking_d1_uncomp.avi",
    "person25_handwaving_d4": "handwaving.zip/person25_handwaving_d4_uncomp.avi",
  }
  assert missing(zipped) == missing(unpacked)


def test_the_list_of_sequences_is_required(kth):
  (kth / "00sequences.txt").unlink()
  with pytest.raises(UserError, match=r"has no 00sequences\.txt: fetch "):
    listed("kth", kth)
