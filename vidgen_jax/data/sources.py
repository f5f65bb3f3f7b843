"""Finding built data sets and reading their records."""

import dataclasses
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vidgen_jax.data import records
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.stored_clips import StoredClips
from vidgen_jax.errors import UserError


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
  directory = records.dataset_directory(name, data_dir)
  if not (directory / records.MANIFEST).is_file():
    raise UserError(
      f"data set {name!r} is not in {Path(data_dir).expanduser()}; build it with: {build_command(name, data_dir)}"
    )
  try:
    manifest = json.loads((directory / records.MANIFEST).read_text())
    builder = tfds.builder_from_directory(directory)
    class_names = tuple(builder.info.features["label"].names)
    indices = {split: _read_index(directory / records.index_file(split)) for split in builder.info.splits}
  except (OSError, ValueError, KeyError, zipfile.BadZipFile, tfds.core.DatasetNotFoundError) as error:
    raise UserError(
      f"data set {name!r} at {directory} is damaged ({_one_line(error)}); build it again with: "
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


def open_split(info: DatasetInfo, split: str) -> StoredClips:
  """Random access to the records of one split: `source[i]` is a dict as in `records.Clip`, `label` an int.

  Raises:
    UserError: if the data set has no such split.
  """
  if split not in info.num_clips:
    raise UserError(
      f"data set {info.name!r} has no split {split!r}, only {', '.join(sorted(info.num_clips))}; "
      "set data.train_split and data.eval_split accordingly, or build it with a larger --test_fraction"
    )
  return StoredClips(tfds.builder_from_directory(info.directory), split)


def build_command(name: str, data_dir: str | Path) -> str:
  """The command that builds a data set of this name."""
  kind = "shape_motion" if re.match(r"shape_motion(?!_real)", name) else "video_folder --source=FOLDER"
  return f"vidgen data build {kind} --name={name} --data_dir={data_dir}"


def _read_index(path: Path) -> dict[str, np.ndarray]:
  with np.load(path) as stored:
    return {name: stored[name] for name in ("num_frames", "label")}


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split()) or type(error).__name__
