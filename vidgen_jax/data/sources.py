"""Finding built data sets and reading their records."""

import bisect
import contextlib
import dataclasses
import itertools
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vidgen_jax.data import records
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.stored_clips import StoredClips
from vidgen_jax.errors import UserError

UNREADABLE = (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile)
"""What opening a damaged data set raises."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
  """What is known about a built data set without reading its records.

  Attributes:
    name: its name.
    directory: its folder.
    class_names: names of the labels, in the order of their indices.
    num_clips: clips by split.
    num_frames: for each split, int32[N]: the length of every clip in record order.
    labels: for each split, int32[N]: the label of every clip in record order.
    manifest: where the clips came from.
  """

  name: str
  directory: Path
  class_names: tuple[str, ...]
  num_clips: Mapping[str, int]
  num_frames: Mapping[str, np.ndarray]
  labels: Mapping[str, np.ndarray]
  manifest: Mapping[str, Any]

  @property
  def fps(self) -> tuple[float, ...]:
    """The distinct frame rates of the clips, ascending; 0 stands for unknown."""
    return tuple(sorted(set(self.manifest["fps"])))


def check_class_names(class_names: Sequence[str], data: DataConfig, *, what: str) -> None:
  """Checks that a data set has exactly these classes in this order, so that a label means the same.

  Args:
    class_names: of whatever was trained.
    data: the data set.
    what: whose classes they are, in words.

  Raises:
    UserError: if not, with both lists; or if the data set is missing.
  """
  found = load_info(data.name, data.data_dir).class_names
  if tuple(class_names) != tuple(found):
    raise UserError(
      f"data set {data.name!r} has the classes {', '.join(found)}, but {what} has {', '.join(class_names)}; "
      "build the data set with the same class folders"
    )


def load_info(name: str, data_dir: str | Path) -> DatasetInfo:
  """Reads what is known about a data set.

  Raises:
    UserError: if it has not been built, saying how to build it, or if its files are damaged.
  """
  directory = dataset_folder(name, data_dir)
  try:
    manifest = json.loads((directory / records.MANIFEST).read_text())
    builder = open_builder(directory)
    class_names = tuple(builder.info.features["label"].names)
    indices = {split: read_index(directory, split) for split in builder.info.splits}
  except UNREADABLE as error:
    raise UserError(
      f"data set {name!r} at {directory} is damaged ({one_line(error)}); build it again with: "
      f"{build_command(name, data_dir)} --overwrite"
    ) from error
  return DatasetInfo(
    name=name,
    directory=directory,
    class_names=class_names,
    num_clips={split: len(index["label"]) for split, index in indices.items()},
    num_frames={split: index["num_frames"] for split, index in indices.items()},
    labels={split: index["label"] for split, index in indices.items()},
    manifest=manifest,
  )


def dataset_folder(name: str, data_dir: str | Path) -> Path:
  """The folder of a data set that has been built.

  Raises:
    UserError: if it has not been built, saying how to build it.
  """
  directory = records.dataset_directory(name, data_dir)
  if not (directory / records.MANIFEST).is_file():
    raise UserError(
      f"data set {name!r} is not in {Path(data_dir).expanduser()}; build it with: {build_command(name, data_dir)}"
    )
  return directory


def open_builder(directory: Path) -> tfds.core.DatasetBuilder:
  """What reads the data set in a folder.

  Raises:
    ValueError: if TFDS's files are missing or damaged.
  """
  try:
    return tfds.builder_from_directory(directory)
  except Exception as error:  # of TFDS, json and protocol buffers, which have no class in common
    raise ValueError(one_line(error)) from error


def open_split(info: DatasetInfo, split: str) -> "RecordSource":
  """Random access to the records of one split: `source[i]` is a dict as in `records.Clip`, `label` an int.

  Raises:
    UserError: if the data set has no such split.
  """
  if split not in info.num_clips:
    raise UserError(
      f"data set {info.name!r} has no split {split!r}, only {', '.join(sorted(info.num_clips))}; "
      "set data.train_split and data.eval_split accordingly, or build it with a larger --test_fraction"
    )
  return RecordSource(open_builder(info.directory), split)


class RecordSource(Sequence[Mapping[str, Any]]):
  """Random access to the records of one split.

  Args:
    builder: of a finished data set.
    split: which split to read.
  """

  def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
    self._records = StoredClips(builder, split)
    self._directory = Path(builder.data_dir)
    shards = builder.info.splits[split].file_instructions
    self._shards = [Path(shard.filename).name for shard in shards]
    self._ends = list(itertools.accumulate(shard.take for shard in shards))

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """Reads one record.

    Raises:
      IndexError: if there is no such record.
      UserError: if it cannot be read, with what went wrong as its cause. Grain passes it on from its threads and
        processes as it is.
    """
    with self._user_errors(index):
      return self._records[index]

  def read(self, index: int) -> bytes:
    """A record as it is stored; see `StoredClips.read`.

    Raises:
      IndexError, UserError: as indexing.
    """
    with self._user_errors(index):
      return self._records.read(index)

  @contextlib.contextmanager
  def _user_errors(self, index: int) -> Iterator[None]:
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)}")
    try:
      yield
    except Exception as error:  # whatever ArrayRecord and the parser say to bytes that are not theirs
      name, data_dir = self._directory.parent.name, self._directory.parent.parent
      raise UserError(
        f"record {index} of data set {name!r} cannot be read from {self._directory / self.shard(index)} "
        f"({one_line(error)}); see what else is damaged with: {verify_command(name, data_dir)}; "
        f"build it again with: {build_command(name, data_dir)} --overwrite"
      ) from error

  def shard(self, index: int) -> str:
    """Name of the file that holds a record."""
    return self._shards[bisect.bisect_right(self._ends, index)]


def build_command(name: str, data_dir: str | Path) -> str:
  """The command that builds a data set of this name, as its manifest tells, or else its name."""
  try:
    manifest = json.loads((records.dataset_directory(name, data_dir) / records.MANIFEST).read_text())
    kind = manifest["builder"]
  except (OSError, ValueError, KeyError, TypeError):
    kind = "shape_motion" if re.match(r"shape_motion(?!_real)", name) else "video_folder"
  origin = {"shape_motion": "", "generated": " --workdir=RUN"}.get(kind, " --source=FOLDER")
  return f"vidgen data build {kind}{origin} --name={name} --data_dir={data_dir}"


def verify_command(name: str, data_dir: str | Path) -> str:
  """The command that lists what is damaged in a data set."""
  return f"vidgen data verify {name} --data_dir={data_dir}"


def read_index(directory: Path, split: str) -> dict[str, np.ndarray]:
  """Length and label of every clip of a split: 'num_frames' and 'label', both int32[N], in record order.

  Raises:
    OSError, ValueError, KeyError, zipfile.BadZipFile: if the file is missing or damaged.
  """
  with np.load(directory / records.index_file(split)) as stored:
    return {name: stored[name] for name in ("num_frames", "label")}


def one_line(error: BaseException) -> str:
  """What an error says, or else its name."""
  return " ".join(str(error).split()) or type(error).__name__
