"""BAIR robot pushing (Ebert et al. 2017): trajectories of 30 frames of 64x64 pixels, 256 in each TFRecord file.

The archive holds `softmotion30_44k/train/traj_<a>_to_<b>.tfrecords` and, below `test`, `traj_0_to_255.tfrecords`; a and
b are the numbers of a file's first and last trajectory. Some numbers are used by no file. Reading a file from the
archive takes its whole size in memory, about 0.2 GB, for every process.
"""

import dataclasses
import math
import re
from collections.abc import Sequence

from vidgen_jax.data.datasets.layout import Layout
from vidgen_jax.data.listing import UNLABELLED, Source, SourceFile

_FILE = re.compile(r"(?:.*/)?(train|test)/traj_(\d+)_to_(\d+)\.tfrecords")


@dataclasses.dataclass(frozen=True, order=True)
class _File:
  folder: str
  first: int
  last: int
  path: str


def _files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  files = sorted(
    _File(match[1], int(match[2]), int(match[3]), path) for path in stamps if (match := _FILE.fullmatch(path))
  )
  training = [file for file in files if file.folder == "train"]
  ranges = {"train": _ranges(rule, training), "test": [(math.inf, "test")]}
  return [
    SourceFile(
      path=file.path,
      class_name=UNLABELLED,
      split=split,
      stamp=stamps[file.path],
      name=f"{file.folder}/traj_{first}..{stop - 1}",
      reader="bair",
      clips=(first - file.first, stop - file.first),
    )
    for file in files
    for first, stop, split in _pieces(file, ranges[file.folder])
  ]


def _ranges(rule: str, training: Sequence[_File]) -> list[tuple[float, str]]:
  """(the number behind the last, split) of consecutive trajectories of the training folder."""
  if rule == "validation":
    return [(256, "train"), (2560, "validation"), (math.inf, "train")]
  if rule == "balanced":
    return [(_seven_tenths(training), "train"), (math.inf, "test")]
  return [(math.inf, "train")]


def _seven_tenths(training: Sequence[_File]) -> float:
  """The number of the first trajectory behind 70 % of those there are, rounded down, in the order of their numbers."""
  left = 7 * sum(file.last - file.first + 1 for file in training) // 10
  for file in training:
    if left <= file.last - file.first:
      return file.first + left
    left -= file.last - file.first + 1
  return math.inf


def _pieces(file: _File, ranges: Sequence[tuple[float, str]]) -> list[tuple[int, int, str]]:
  """(first, behind the last, split): one piece, or more where borders between splits cross the file."""
  pieces, first = [], file.first
  for stop, split in ranges:
    if (border := int(min(stop, file.last + 1))) > first:
      pieces.append((first, border, split))
      first = border
  return pieces


BAIR = Layout(
  name="bair",
  list_files=_files,
  # The owners' folders; trajectories 256-2559 for validation (Inbetweening, B.2); the first 70 % of the training folder
  # for training, 30,284.8 rounded down, and the rest with the owners' 256 for testing (TrIVD-GAN-FP, C.1).
  num_videos={
    "original": {"train": 43264, "test": 256},
    "validation": {"train": 40960, "validation": 2304, "test": 256},
    "balanced": {"train": 30284, "test": 13236},
  },
  obtain=(
    "fetch bair_robot_pushing_dataset_v0.tar (about 32 GB) from rail.eecs.berkeley.edu/datasets (its page is "
    "sites.google.com/view/sna-visual-mpc) into <data_dir>/downloads/manual/bair, where it is read as it is; a build "
    "with --size=64 takes about 4 GB, about 5 minutes of one core, and about 0.2 GB of memory for every process"
  ),
)
"""The layout."""
