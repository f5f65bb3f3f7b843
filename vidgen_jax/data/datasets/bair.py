"""BAIR robot pushing: trajectories of 30 frames of 64x64 pixels, 256 in each TFRecord file.

The archive contains `softmotion30_44k/train/traj_<a>_to_<b>.tfrecords` and, below `test`, `traj_0_to_255.tfrecords`; a
and b are the numbers of the first and last trajectory of a file. Some numbers are unused. Every process that decodes
needs about 0.2 GB of memory and of temporary disk space, the size of a file.
"""

import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from vidgen_jax.data.datasets import SplitRule
from vidgen_jax.data.datasets.published import published
from vidgen_jax.data.decode import DecodedVideo, DecodeOptions, UnreadableVideoError, encode_clips
from vidgen_jax.data.listing import UNLABELLED, Source, SourceFile
from vidgen_jax.errors import UserError

_FILE = re.compile(r"(?:.*/)?(train|test)/traj_(\d+)_to_(\d+)\.tfrecords")
_SIZE = 64
_FEATURE = "{}/image_aux1/encoded"
"""Image of the side camera at a step: raw bytes, height x width x channel."""


@published(
  name="bair",
  title="BAIR robot pushing (Ebert et al. 2017)",
  split_rules={
    "original": SplitRule("owners' folders", {"train": 43264, "test": 256}),
    # Inbetweening, section B.2.
    "validation": SplitRule("trajectories 256-2559 for validation", {"train": 40960, "validation": 2304, "test": 256}),
    # TrIVD-GAN-FP, section C.1; 30,284.8 rounded down.
    "balanced": SplitRule("70 % of the training folder; all others for testing", {"train": 30284, "test": 13236}),
  },
  obtain=(
    "fetch bair_robot_pushing_dataset_v0.tar (about 32 GB) from rail.eecs.berkeley.edu/datasets (its page is "
    "sites.google.com/view/sna-visual-mpc) into <data_dir>/downloads/manual/bair, where it is read as it is, by "
    "TensorFlow (pip install 'vidgen-jax[convert]'); a build with --size=64 takes about 9 GB, about 5 minutes of one "
    "core, and about 0.2 GB of memory for every process"
  ),
)
def _list_files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  files = sorted(
    (match[1], int(match[2]), int(match[3]) + 1, path) for path in stamps if (match := _FILE.fullmatch(path))
  )
  training = [number for folder, first, stop, _ in files if folder == "train" for number in range(first, stop)]
  # The first trajectory after 70 % of the existing ones, rounded down.
  border = training[7 * len(training) // 10] if training else 0

  def split_of(folder: str, number: int) -> str:
    if folder == "test" or (rule == "balanced" and number >= border):
      return "test"
    return "validation" if rule == "validation" and 256 <= number < 2560 else "train"

  listed = []
  for folder, first, stop, path in files:
    # A border between splits may be within a file.
    for split, group in itertools.groupby(range(first, stop), lambda number: split_of(folder, number)):  # noqa: B023
      numbers = list(group)
      listed.append(
        SourceFile(
          path=path,
          class_name=UNLABELLED,
          split=split,
          stamp=stamps[path],
          name=f"{folder}/traj_{numbers[0]}..{numbers[-1]}",
          reader=read_trajectories,
          clips=(numbers[0] - first, numbers[-1] + 1 - first),
        )
      )
  return listed


def read_trajectories(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """A `SourceFile.reader` of trajectories `file.clips` of a TFRecord file.

  Raises UserError if TensorFlow is not installed, and UnreadableVideoError if the file is damaged or not one of BAIR.
  """
  try:
    import tensorflow as tf
  except ImportError as error:
    raise UserError("BAIR's TFRecord files are read by TensorFlow: pip install 'vidgen-jax[convert]'") from error
  first, stop = file.clips or (0, 0)
  # TensorFlow reads files only, and the source may be an archive.
  with tempfile.NamedTemporaryFile(suffix=".tfrecords") as copy:
    with source.open(file.path) as opened:
      shutil.copyfileobj(opened, copy)
    copy.flush()
    records = tf.data.TFRecordDataset(copy.name).take(stop).skip(first).as_numpy_iterator()
    try:
      decoded = encode_clips(map(_frames, map(tf.train.Example.FromString, records)), options)
    except tf.errors.DataLossError as error:
      # Without the names of graph node and operation around the message.
      raise UnreadableVideoError(error.message.rpartition("}} ")[2].partition(" [Op:")[0]) from error
    except DecodeError as error:
      raise UnreadableVideoError("a record is not a tf.train.Example") from error
  if len(decoded.cuts) + 1 != stop - first:
    raise UnreadableVideoError(f"has {first + len(decoded.cuts) + 1} trajectories, not {stop}")
  return decoded


def _frames(example: Any) -> Iterator[Image.Image]:
  features = example.features.feature
  for step in itertools.count():
    if (name := _FEATURE.format(step)) not in features:
      if not step:
        raise UnreadableVideoError(f"a trajectory has no {name}")
      return
    values = features[name].bytes_list.value
    if [len(value) for value in values] != [_SIZE * _SIZE * 3]:
      raise UnreadableVideoError(f"step {step} of a trajectory is not one image of {_SIZE}x{_SIZE} pixels")
    yield Image.fromarray(np.frombuffer(values[0], np.uint8).reshape(_SIZE, _SIZE, 3))
