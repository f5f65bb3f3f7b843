"""BAIR robot pushing: trajectories by number, and borders between splits within files."""

import io
import math
import sys

import numpy as np
import pytest
from PIL import Image

from tests.data.datasets.listings import PUBLISHED, build, clips_by_split, levels, listed
from tests.data.datasets.miniatures import example, make_bair, trajectory, write_tfrecord
from vidgen_jax import cli
from vidgen_jax.data.datasets.bair import read_trajectories
from vidgen_jax.data.decode import DecodeOptions, UnreadableVideoError
from vidgen_jax.data.listing import Source, SourceFile
from vidgen_jax.data.staging import read_video
from vidgen_jax.data.transforms import FrameEncoding
from vidgen_jax.errors import UserError

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
    # In numerical order: 512 is before 2558.
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


def test_the_border_may_be_before_the_last_trajectory_of_a_file(tmp_path):
  (tmp_path / "train").mkdir()
  for name in ("traj_256_to_263", "traj_600_to_601"):
    (tmp_path / "train" / f"{name}.tfrecords").touch()
  # Seven of ten.
  files = listed("bair", tmp_path, "balanced")
  assert [(file.clips, file.split) for file in files] == [((0, 7), "train"), ((7, 8), "test"), ((0, 2), "test")]


def test_the_complete_set_has_the_numbers_of_the_papers(tmp_path):
  """169 files of 256 trajectories; 95 numbers in the middle are unused, as in the original."""
  (tmp_path / "train").mkdir()
  (tmp_path / "test").mkdir()
  starts = [256 + 256 * n + (95 if n > 40 else 0) for n in range(169)]
  for start in starts:
    (tmp_path / "train" / f"traj_{start}_to_{start + 255}.tfrecords").touch()
  (tmp_path / "test" / "traj_0_to_255.tfrecords").touch()
  for rule, (_, complete) in PUBLISHED["bair"].split_rules.items():
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


def test_a_file_is_divided_between_splits(bair):
  info, manifest = build("bair", bair, "--split_rule=balanced", "--size=16")
  # trajectory(): seven times the number, modulo 150, plus 20 per step: 2558 * 7 = 119 * 150 + 56.
  first = {
    "train": {256: 142, 257: 149, 258: 6, 512: 134, 513: 141, 514: 148, 2558: 56},
    "test": {0: 0, 1: 7, 2559: 63, 2560: 70, 2561: 77},
  }
  for split, expected in first.items():
    assert levels(info, split) == sorted([level, level + 20, level + 40] for level in expected.values())
  assert manifest["complete_videos"] == {"train": 30284, "test": 13236}


def test_resampling_needs_the_frame_rate_which_is_unknown(bair, capsys):
  words = ["data", "build", "bair", f"--source={bair}", f"--data_dir={bair.parent / 'built'}", "--fps=25"]
  assert cli.dispatch(words) == 2
  assert "--fps=25: the images of bair have no frame rate; pass --source_fps" in capsys.readouterr().err


def read(root, *, clips, size=0, stride=1):
  """Reads trajectories of the file 'x' without loss."""
  file = SourceFile(path="x", class_name="c", split="train", stamp="s", reader=read_trajectories, clips=clips)
  options = DecodeOptions(size=size, encoding=FrameEncoding(encoding="png"), stride=stride)
  with Source(root) as source:
    return read_video(source, file, options)


def grey_of(decoded):
  return [round(float(np.mean(Image.open(io.BytesIO(frame))))) for frame in decoded.frames]


def test_trajectories_are_clips_of_one_video(tmp_path):
  write_tfrecord(tmp_path / "x", [example(trajectory(number, num_steps=3 + number)) for number in range(4)])
  decoded = read(tmp_path, clips=(1, 3))
  # Number 1 has four steps from grey 7, number 2 five from 14; a step adds 20.
  assert grey_of(decoded) == [7, 27, 47, 67, 14, 34, 54, 74, 94]
  assert (decoded.cuts, decoded.fps, decoded.source_height, decoded.source_width) == ([4], 0.0, 64, 64)
  strided = read(tmp_path, clips=(1, 3), stride=2, size=16)
  assert (grey_of(strided), strided.cuts) == ([7, 47, 14, 54, 94], [2])
  with pytest.raises(UnreadableVideoError, match=r"^has 4 trajectories, not 5"):
    read(tmp_path, clips=(1, 5))


def test_a_step_is_height_then_width_then_colour(tmp_path):
  pixels = np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3)
  write_tfrecord(tmp_path / "x", [example({"0/image_aux1/encoded": [pixels.tobytes()]})])
  (frame,) = read(tmp_path, clips=(0, 1)).frames
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(frame))), pixels)


@pytest.mark.parametrize(
  ("second", "message"),
  [
    (example(trajectory(1) | {"1/image_aux1/encoded": [bytes(48 * 64 * 3)]}), "step 1 of a trajectory is not"),
    (example({"0/image_main/encoded": [bytes(64 * 64 * 3)]}), "a trajectory has no 0/image_aux1/encoded"),
    (b"\x0a\x7f", r"a record is not a tf\.train\.Example"),
  ],
)
def test_other_records_give_the_reason(tmp_path, second, message):
  write_tfrecord(tmp_path / "x", [example(trajectory(0)), second])
  with pytest.raises(UnreadableVideoError, match=f"^{message}"):
    read(tmp_path, clips=(0, 2))


@pytest.mark.parametrize("damage", ["cut off", "flipped bit", "text"])
def test_damaged_files_give_the_reason_and_spare_trajectories_before_the_damage(tmp_path, damage):
  write_tfrecord(tmp_path / "x", [example(trajectory(number)) for number in range(2)])
  data = bytearray((tmp_path / "x").read_bytes())
  if damage == "flipped bit":
    data[-1000] ^= 1
  (tmp_path / "x").write_bytes({"cut off": data[:-5], "flipped bit": data, "text": b"Just a few words."}[damage])
  with pytest.raises(UnreadableVideoError, match=r"^(truncated|corrupted) record at \d+"):
    read(tmp_path, clips=(0, 2))
  if damage != "text":
    assert grey_of(read(tmp_path, clips=(0, 1))) == [0, 20, 40]


def test_missing_tensorflow_names_the_extra(bair, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  (file, *_) = listed("bair", bair)
  with Source(bair, nested=True) as source, pytest.raises(UserError, match=r"vidgen-jax\[convert\]"):
    read_video(source, file, DecodeOptions())
