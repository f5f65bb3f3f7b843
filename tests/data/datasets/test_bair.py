"""BAIR robot pushing: trajectories by their numbers, in files that borders may cross."""

import math

import pytest

from tests.data.datasets.listings import build, clips_by_split, levels, listed
from tests.data.datasets.miniatures import make_bair
from vidgen_jax.data.datasets import LAYOUTS

FOLDER = "bair_robot_pushing_dataset_v0.tar/softmotion30_44k"


@pytest.fixture
def bair(tmp_path):
  return make_bair(tmp_path / "bair")


def _places(files):
  return [(file.path.removeprefix(f"{FOLDER}/"), file.clips, file.split, file.name) for file in files]


def test_the_owners_folders_are_the_split(bair):
  assert _places(listed("bair", bair)) == [
    ("test/traj_0_to_1.tfrecords", (0, 2), "test", "test/traj_0..1"),
    ("train/traj_256_to_258.tfrecords", (0, 3), "train", "train/traj_256..258"),
    # By number: 512 stands before 2558.
    ("train/traj_512_to_514.tfrecords", (0, 3), "train", "train/traj_512..514"),
    ("train/traj_2558_to_2561.tfrecords", (0, 4), "train", "train/traj_2558..2561"),
  ]


def test_trajectories_256_to_2559_are_for_validation(bair):
  files = listed("bair", bair, "validation")
  assert clips_by_split(files) == {"test": 2, "validation": 8, "train": 2}
  assert _places(files)[-2:] == [
    ("train/traj_2558_to_2561.tfrecords", (0, 2), "validation", "train/traj_2558..2559"),
    ("train/traj_2558_to_2561.tfrecords", (2, 4), "train", "train/traj_2560..2561"),
  ]


def test_seven_tenths_of_the_training_folder_are_for_training(bair):
  # Seven of ten: 256-258, 512-514 and 2558.
  files = listed("bair", bair, "balanced")
  assert clips_by_split(files) == {"train": 7, "test": 5}
  assert _places(files)[-2:] == [
    ("train/traj_2558_to_2561.tfrecords", (0, 1), "train", "train/traj_2558..2558"),
    ("train/traj_2558_to_2561.tfrecords", (1, 4), "test", "train/traj_2559..2561"),
  ]


def test_the_border_may_stand_before_the_last_trajectory_of_a_file(tmp_path):
  (tmp_path / "train").mkdir()
  for name in ("traj_256_to_263", "traj_600_to_601"):
    (tmp_path / "train" / f"{name}.tfrecords").touch()
  # Seven of ten.
  files = listed("bair", tmp_path, "balanced")
  assert [(file.clips, file.split) for file in files] == [((0, 7), "train"), ((7, 8), "test"), ((0, 2), "test")]


def test_the_complete_set_has_the_papers_numbers(tmp_path):
  """169 files of 256 trajectories; 95 numbers in the middle are passed over, as some are in theirs."""
  (tmp_path / "train").mkdir()
  (tmp_path / "test").mkdir()
  starts = [256 + 256 * n + (95 if n > 40 else 0) for n in range(169)]
  for start in starts:
    (tmp_path / "train" / f"traj_{start}_to_{start + 255}.tfrecords").touch()
  (tmp_path / "test" / "traj_0_to_255.tfrecords").touch()
  for rule, complete in LAYOUTS["bair"].num_videos.items():
    assert clips_by_split(listed("bair", tmp_path, rule)) == dict(complete)
  # 0.7 * 43264 = 30284.8: 118 whole files and 76 trajectories of the next one.
  assert math.floor(0.7 * 43264) == 118 * 256 + 76
  crossed = [file for file in listed("bair", tmp_path, "balanced") if file.clips != (0, 256)]
  assert [file.clips for file in crossed] == [(0, 76), (76, 256)]
  assert {file.path for file in crossed} == {f"train/traj_{starts[118]}_to_{starts[118] + 255}.tfrecords"}
  assert all(file.clips == (0, 256) for file in listed("bair", tmp_path, "validation"))


def test_other_files_are_not_used(bair):
  (bair / "train").mkdir()
  for name in ("train/traj_1_to_2.txt", "train/traj_1.tfrecords", "traj_1_to_2.tfrecords"):
    (bair / name).write_bytes(b"")
  assert len(listed("bair", bair)) == 4


def test_both_sides_of_a_file_get_their_trajectories(bair):
  info, manifest = build("bair", bair, "--split_rule=balanced", "--size=16")
  # trajectory(): seven times the number, modulo 150, and 20 a step: 2558 * 7 = 119 * 150 + 56.
  first = {
    "train": {256: 142, 257: 149, 258: 6, 512: 134, 513: 141, 514: 148, 2558: 56},
    "test": {0: 0, 1: 7, 2559: 63, 2560: 70, 2561: 77},
  }
  for split, expected in first.items():
    assert levels(info, split) == sorted([level, level + 20, level + 40] for level in expected.values())
  assert manifest["complete_videos"] == {"train": 30284, "test": 13236}
