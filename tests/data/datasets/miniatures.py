"""Miniatures of published data sets: a few small videos in the layout of the owners."""

import csv
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from tests.data.conftest import make_video

UCF101_TRAIN = [f"{c}/v_{c}_g{g:02d}_c{n:02d}.avi" for c in ("Archery", "Yo") for g in (8, 9, 10) for n in (1, 2)]
UCF101_TEST = [f"{c}/v_{c}_g01_c01.avi" for c in ("Archery", "Yo")]

KTH_SEQUENCES = """The frames of the sequences.

person01_handwaving_d1\t\tframes\t1-4, 5-9
person16_boxing_d2\t\tframes\t2-5, 6-7
person25_handwaving_d4\t\tframes\t3-20
"""

KINETICS_HEADER = "label,youtube_id,time_start,time_end,split,is_cc"
KINETICS_TRAIN = [
  ("springboard diving", "-a_b-C12345", 15, 25),
  ('playing "catch, or" frisbee', "__NrybzYzUg", 415, 425),
  ("springboard diving", "whole_video", 0, 10),
  ("ironing", "gone-gone-1", 7, 17),
]
KINETICS_VALIDATION = [("ironing", "v-v_v-v_v-1", 100, 110)]
_KINETICS_LISTS = {
  400: ("annotations/train.csv", "annotations/val.csv", "annotations/test.csv"),
  600: ("annotations/train.txt", "annotations/val.txt", "annotations/test.csv"),
  700: ("kinetics_700_train.csv", "k700_validate.csv", "k700-test.csv"),
}


def grey(path: Path, levels: Sequence[int], *, rate: int = 25) -> Path:
  """Writes a video of uniform grey frames."""
  path.parent.mkdir(parents=True, exist_ok=True)
  container = {".avi": "avi", ".mp4": "mp4", ".mkv": "matroska"}[path.suffix]
  return make_video(path, list(levels), codec="mpeg4", container=container, rate=rate)


def image(level: int, *, size: tuple[int, int] = (24, 16), image_format: str = "JPEG") -> bytes:
  """An image of uniform grey; `size` is (width, height)."""
  buffer = io.BytesIO()
  Image.new("RGB", size, (level, level, level)).save(buffer, image_format)
  return buffer.getvalue()


def images(folder: Path, levels: Sequence[int], *, name: str) -> None:
  """Writes grey images with numbers in their names."""
  folder.mkdir(parents=True, exist_ok=True)
  for number, level in enumerate(levels):
    (folder / name.format(number)).write_bytes(image(level))


def zip_up(folder: Path, archive: Path) -> None:
  """Moves the files of a folder into a zip file."""
  archive.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(archive, "w") as opened:
    for path in sorted(folder.rglob("*")):
      if path.is_file():
        opened.write(path, path.relative_to(folder))
        path.unlink()


def make_ucf101(root: Path) -> Path:
  """Two classes of four recordings; the last training video is missing, and the lists are in a zip file."""
  for name in UCF101_TRAIN[:-1] + UCF101_TEST:
    grey(root / "UCF-101" / name, [40, 80, 120])
  lists = root / "lists" / "ucfTrainTestlist"
  lists.mkdir(parents=True)
  for number in (1, 2, 3):
    (lists / f"trainlist0{number}.txt").write_text("".join(f"{name} 1\n" for name in UCF101_TRAIN))
    (lists / f"testlist0{number}.txt").write_text("".join(f"{name}\r\n" for name in UCF101_TEST))
  zip_up(lists.parent, root / "UCF101TrainTestSplits-RecognitionTask.zip")
  return root


def make_kth(root: Path, *, zipped: bool = True) -> Path:
  """Four videos of ten frames in the zip files of their actions, and a list of the parts of three of them."""
  for name in ("person01_handwaving_d1", "person16_boxing_d2", "person25_handwaving_d4", "person17_walking_d1"):
    grey(root / name.split("_")[1] / f"{name}_uncomp.avi", range(0, 200, 20))
  for action in ("handwaving", "boxing", "walking") if zipped else ():
    zip_up(root / action, root / f"{action}.zip")
  (root / "00sequences.txt").write_text(KTH_SEQUENCES)
  return root


def make_weizmann(root: Path) -> Path:
  """Five videos: four in the zip files of their actions, one unpacked."""
  for level, name in ((40, "daria_walk"), (80, "lena_walk1"), (120, "lena_walk2"), (160, "moshe_bend")):
    grey(root / name.split("_")[1].rstrip("12") / f"{name}.avi", [level, level + 20])
  for action in ("walk", "bend"):
    zip_up(root / action, root / f"{action}.zip")
  grey(root / "wave1" / "shahar_wave1.avi", [200, 220])
  return root


def make_kinetics(root: Path, version: int) -> Path:
  """Four rows for training, the last of a missing video, one for validation, and one without a label."""
  train, validation, test = _KINETICS_LISTS[version]
  _write_rows(root / train, KINETICS_TRAIN, "train")
  _write_rows(root / validation, KINETICS_VALIDATION, "validate")
  _write_rows(root / test, [("", "t_t-t_t-t_1", 1, 11)], "test")
  if version == 600:
    _write_rows(root / "annotations/kinetics600_holdout_test.csv", [("ironing", "t_t-t_t-t_1", 1, 11)], "test")
  grey(root / "train" / "-a_b-C12345_000015_000025.mp4", [40, 60, 80])
  grey(root / "train" / "part" / "__NrybzYzUg_000415_000425.mkv", [100, 120, 140])
  grey(root / "train" / "whole_video.mp4", [160, 180, 200])
  grey(root / "val" / "v-v_v-v_v-1_000100_000110.mp4", [20, 220])
  grey(root / "test" / "t_t-t_t-t_1_000001_000011.mp4", [0, 0])
  return root


def _write_rows(path: Path, rows: Iterable[tuple[str, str, int, int]], split: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(KINETICS_HEADER.split(","))
    writer.writerows([*row, split, 0] for row in rows)


def trajectory(number: int, num_steps: int = 3) -> dict[str, list[bytes]]:
  """Features of a trajectory of uniform grey: 20 per step, plus 7 times its number, modulo 150."""
  features = {}
  for step in range(num_steps):
    level = number * 7 % 150 + 20 * step
    features[f"{step}/image_aux1/encoded"] = [bytes([level]) * (64 * 64 * 3)]
    features[f"{step}/image_main/encoded"] = [bytes(64 * 64 * 3)]
  return features


def example(features: Mapping[str, Sequence[bytes]]) -> bytes:
  """Serializes a `tf.train.Example` of byte features."""
  message = tf_example_pb2.Example()
  for name, values in features.items():
    message.features.feature[name].bytes_list.value.extend(values)
  return message.SerializeToString()


def write_tfrecord(path: Path, examples: Iterable[bytes]) -> None:
  """Writes a TFRecord file; skips the test if TensorFlow is not installed."""
  tf = pytest.importorskip("tensorflow", reason="TensorFlow (extra convert) is not installed")
  path.parent.mkdir(parents=True, exist_ok=True)
  with tf.io.TFRecordWriter(str(path)) as writer:
    for data in examples:
      writer.write(data)


def make_bair(root: Path) -> Path:
  """Ten trajectories in three files for training and two for testing, in a tar file like that of the owners."""
  folder = root / "softmotion30_44k"
  for split, first, last in (("train", 256, 258), ("train", 512, 514), ("train", 2558, 2561), ("test", 0, 1)):
    path = folder / split / f"traj_{first}_to_{last}.tfrecords"
    write_tfrecord(path, [example(trajectory(number)) for number in range(first, last + 1)])
  with tarfile.open(root / "bair_robot_pushing_dataset_v0.tar", "w") as archive:
    archive.add(folder, arcname=folder.name)
  for path in folder.rglob("*.tfrecords"):
    path.unlink()
  return root


def make_jester(root: Path) -> Path:
  """Videos 1, 20 and 300 (missing) for training, 4 for validation, and 5 without a label."""
  for number, levels in ((1, [40, 80]), (20, [100, 120, 140]), (4, [60, 90]), (5, [0, 0])):
    images(root / "20bn-jester-v1" / str(number), levels, name="{:05d}.jpg")
  rows = {
    "train": "1;Swiping Left\n20;No gesture\n300;Drumming Fingers\n",
    "validation": "4;No gesture\n",
    "test": "5\n",
    "labels": "Swiping Left\nDrumming Fingers\nNo gesture\n",
  }
  for name, text in rows.items():
    (root / f"jester-v1-{name}.csv").write_text(text)
  return root


def make_mug(root: Path) -> Path:
  """Five subjects with two expressions each, one in two sessions; neutral and mixed faces of one subject."""
  folder = root / "subjects3"
  for subject in range(1, 6):
    for expression in ("anger", "happiness"):
      images(folder / f"00{subject}" / expression / "take000", [subject * 20, 200], name="img_{:04d}.jpg")
  images(folder / "005" / "session1" / "anger" / "take000", [120, 200], name="img_{:04d}.jpg")
  images(folder / "001" / "neutral" / "take000", [140, 200], name="img_{:04d}.jpg")
  images(folder / "001" / "mixed" / "take000", [0, 0], name="img_{:04d}.jpg")
  return root


def make_moving_mnist(root: Path) -> Path:
  """Thirty clips of uniform grey: seven times the number of the clip plus the time."""
  videos = 7 * np.arange(30)[None, :, None, None] + np.arange(20)[:, None, None, None]
  root.mkdir(parents=True, exist_ok=True)
  np.save(root / "mnist_test_seq.npy", np.broadcast_to(videos, (20, 30, 64, 64)).astype(np.uint8))
  return root


MINIATURES: Mapping[str, Callable[[Path], Path]] = {
  "bair": make_bair,
  "jester": make_jester,
  "kinetics400": lambda root: make_kinetics(root, 400),
  "kinetics600": lambda root: make_kinetics(root, 600),
  "kinetics700": lambda root: make_kinetics(root, 700),
  "kth": make_kth,
  "moving_mnist": make_moving_mnist,
  "mug": make_mug,
  "ucf101": make_ucf101,
  "weizmann": make_weizmann,
}
"""Function by data set that writes a miniature into a folder and returns the folder."""
