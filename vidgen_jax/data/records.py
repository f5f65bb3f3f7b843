"""Built data sets: where they are stored, what is known about them, and random access to their clips.

A data set is a folder `<data_dir>/<name>/1.0.0` with the ArrayRecord shards of TFDS, `manifest.json`, and one
`index-<split>.npz` per split with 'num_frames' and 'label' (int32[N], in record order), so that clips that are too
short are found without reading the records.
"""

import bisect
import dataclasses
import difflib
import functools
import hashlib
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.proto import tf_example_pb2

from vidgen_jax.data import transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError

Example: Any = tf_example_pb2.Example  # ty: ignore[missing-attribute]  Created at run time.
"""Protocol buffer of a record; TFDS's copy of `tf.train.Example` needs no TensorFlow."""

VERSION = "1.0.0"
"""Version of the record layout."""

MANIFEST = "manifest.json"
"""File that lists the sources of the clips and, under 'files', size and checksum of every other file."""

UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile)
"""Exceptions raised when a damaged data set is opened."""

_FIELDS = {"frames", "label", "fps", "source", "height", "width"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
  """Facts about a built data set that need no reading of records.

  Attributes:
    name: name of the data set.
    directory: folder with the shards.
    class_names: class names by label.
    num_frames: int32[N] by split: frames of every clip, in record order.
    labels: int32[N] by split: label of every clip, in record order.
    manifest: content of `manifest.json`.
  """

  name: str
  directory: Path
  class_names: tuple[str, ...]
  num_frames: Mapping[str, np.ndarray]
  labels: Mapping[str, np.ndarray]
  manifest: Mapping[str, Any]

  @property
  def num_clips(self) -> Mapping[str, int]:
    """Number of clips by split."""
    return {split: len(labels) for split, labels in self.labels.items()}

  @property
  def fps(self) -> tuple[float, ...]:
    """Distinct frame rates of the clips, ascending; 0 means unknown."""
    return tuple(sorted(set(self.manifest["fps"])))

  @property
  def content_hash(self) -> str:
    """SHA-256 of the clips, which does not depend on the name; '' if the manifest has no checksums."""
    # The names of the other files contain the name and facts that TFDS may add to.
    clips = {
      name.removeprefix(f"{self.name}-"): facts["sha256"]
      for name, facts in self.manifest.get("files", {}).items()
      if ".array_record" in name or name.startswith("index-")
    }
    return hashlib.sha256(json.dumps(sorted(clips.items())).encode()).hexdigest() if clips else ""

  @property
  def encoding(self) -> str:
    """Encoding of the stored frames, such as 'jpeg, quality 95' or 'png'; '' if the manifest does not state it."""
    stored = self.manifest.get("stored", {})
    quality = f", quality {stored['quality']}" if stored.get("quality") else ""
    return f"{stored.get('encoding', '')}{quality}"

  @property
  def is_lossy(self) -> bool:
    """Whether the stored frames differ from the source's resized frames, as JPEG does."""
    # Manifests of older versions have only the options.
    older = {"lossy": self.manifest.get("options", {}).get("encoding") == "jpeg"}
    return bool(self.manifest.get("stored", older)["lossy"])


def dataset_directory(name: str, data_dir: str | Path) -> Path:
  """Folder of a complete data set, which may not exist."""
  return Path(data_dir).expanduser() / name / VERSION


def index_file(split: str) -> str:
  """Name of the file with the length and label of every clip of a split."""
  return f"index-{split}.npz"


def check_class_names(class_names: Sequence[str], data: DataConfig, *, what: str) -> None:
  """Checks that a data set has these class names by label, so that labels mean the same; UserError if not.

  `what` is the owner of `class_names`, for the message.
  """
  found = load_info(data.name, data.data_dir).class_names
  if tuple(class_names) != tuple(found):
    # Long lists are shown from the first difference on.
    same = next((i for i, pair in enumerate(zip(found, class_names, strict=False)) if pair[0] != pair[1]), 0)
    lists = [
      ", ".join(names) if len(names) <= 10 else f"{', '.join(names[same : same + 3])}, ... ({len(names)})"
      for names in (found, class_names)
    ]
    raise UserError(
      f"data set {data.name!r} has the classes {lists[0]}, but {what} has {lists[1]}; build the data set with the same "
      "class folders, or use another one"
    )


def check_content(known: str, data: DataConfig, *, owner: str, strict: bool = False) -> None:
  """Logs that a data set has other clips than its owner was trained with; raises a UserError instead if `strict`.

  `known` is the `DatasetInfo.content_hash` that `owner` has stored; '' if it has none, which is not checked.
  """
  if not known:
    return
  info = load_info(data.name, data.data_dir)
  found = info.content_hash
  if found in ("", known):
    return
  message = (
    f"data set {data.name!r} at {info.directory} has other clips (hash {found[:12]}) than those that {owner} was "
    f"trained with (hash {known[:12]}); restore it, or build the new one under another --name"
  )
  if strict:
    raise UserError(f"--strict_data: {message}")
  logging.warning("%s", message)


def load_info(name: str, data_dir: str | Path) -> DatasetInfo:
  """Loads manifest, class names and indices of a data set.

  Raises a UserError with the command that builds the data set if it is missing or damaged.
  """
  directory = existing_directory(name, data_dir)
  try:
    manifest = json.loads((directory / MANIFEST).read_text())
    if not manifest.keys() >= {"fps", "sources"} or any("status" not in entry for entry in manifest["sources"]):
      raise ValueError(f"{MANIFEST} has no frame rates or sources")
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
    num_frames={split: index["num_frames"] for split, index in indices.items()},
    labels={split: index["label"] for split, index in indices.items()},
    manifest=manifest,
  )


def existing_directory(name: str, data_dir: str | Path) -> Path:
  """Folder of a built data set; if there is none, raises a UserError with the command that builds it."""
  directory = dataset_directory(name, data_dir)
  if not (directory / MANIFEST).is_file():
    raise UserError(
      f"data set {name!r} is not in {Path(data_dir).expanduser()}{did_you_mean(name, built_names(data_dir))}; build it "
      f"with: {build_command(name, data_dir)}"
    )
  return directory


def built_names(data_dir: str | Path) -> list[str]:
  """Names of all data sets in a folder, sorted, damaged ones included."""
  return sorted(path.parent.parent.name for path in Path(data_dir).expanduser().glob(f"*/{VERSION}/{MANIFEST}"))


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """' (did you mean a or b?)' with the most similar known names; '' if none is similar."""
  lower = {each.lower(): each for each in known}
  close = [lower[each] for each in difflib.get_close_matches(name.lower(), lower, n=2)]
  return f" (did you mean {' or '.join(close)}?)" if close else ""


def open_builder(directory: Path) -> tfds.core.DatasetBuilder:
  """Opens the data set in a folder with TFDS; raises ValueError if TFDS's files are missing or damaged."""
  try:
    return tfds.builder_from_directory(directory)
  except Exception as error:  # TFDS, json and protobuf raise unrelated types
    raise ValueError(one_line(error)) from error


def read_index(directory: Path, split: str) -> dict[str, np.ndarray]:
  """Reads length and label of every clip of a split, 'num_frames' and 'label', both int32[N], in record order.

  Raises one of `UNREADABLE` if the file is missing or damaged.
  """
  with np.load(directory / index_file(split)) as stored:
    return {name: stored[name] for name in ("num_frames", "label")}


class ClipSource(Sequence[Mapping[str, Any]]):
  """Random access to the clips of one split; a `grain.sources.RandomAccessDataSource`.

  An element is a dict of 'frames' (sequence of JPEG or PNG bytes), 'label', 'height', 'width' (int), 'fps' (float) and
  'source' (bytes).

  Args:
    builder: TFDS builder of a complete data set.
    split: name of the split.
    indices: records that the source contains, ascending; None for all.
    num_frames: length of every clip of the source, as far as known.
  """

  def __init__(
    self,
    builder: tfds.core.DatasetBuilder,
    split: str,
    indices: Sequence[int] | np.ndarray | None = None,
    *,
    num_frames: Sequence[int] = (),
  ):
    self.num_frames = num_frames
    self._records = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    self._directory, self._split = Path(builder.data_dir), split
    self._indices = range(len(self._records)) if indices is None else indices
    shards = builder.info.splits[split].file_instructions
    self._shards = [Path(shard.filename).name for shard in shards]
    self._ends = list(itertools.accumulate(shard.take for shard in shards))

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> Mapping[str, Any]:  # ty: ignore[incompatible-method-override]  No slices.
    """Reads and parses one record; its frames stay encoded.

    Raises:
      IndexError: if the index is out of range.
      UserError: if the record is damaged. Grain forwards the error from its threads and processes unchanged.
    """
    return self._read(index, parse_clip)

  def read(self, index: int) -> bytes:
    """Reads one record, a serialized `tf.train.Example`; raises the errors of indexing."""
    return self._read(index, bytes)

  def shard(self, index: int) -> str:
    """Name of the file that contains a record."""
    return self._shards[bisect.bisect_right(self._ends, int(self._indices[index]))]

  def __repr__(self) -> str:
    # Grain compares this string with the one in a saved iterator state.
    return f"ClipSource({self._directory.parent.name}/{self._split}, clips={len(self)})"

  def _read(self, index: int, parse: Callable[[bytes], Any]) -> Any:
    _keep_freed_memory()
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)}")
    record = int(self._indices[index])
    try:
      return parse(self._records[record])
    except Exception as error:  # ArrayRecord and protobuf raise unrelated types
      name, data_dir = self._directory.parent.name, self._directory.parent.parent
      raise UserError(
        f"record {record} of data set {name!r} cannot be read from {self._directory / self.shard(index)} "
        f"({one_line(error)}); list all damage with: vidgen data verify {name} --data_dir={data_dir}; "
        f"build it again with: {build_command(name, data_dir)} --overwrite"
      ) from error


def long_enough(info: DatasetInfo, split: str, min_frames: int) -> np.ndarray:
  """Records of a split with at least `min_frames` frames, ascending; UserError if there is none, or no such split."""
  if split not in info.num_clips:
    known = ", ".join(sorted(info.num_clips))
    raise UserError(
      f"data set {info.name!r} has no split {split!r}, only {known}; choose one of them, or build it with this split"
    )
  lengths = info.num_frames[split]
  indices = np.flatnonzero(lengths >= min_frames)
  if min_frames and not len(indices):
    raise UserError(
      f"data set {info.name!r} has no clip of {min_frames} frames in split {split!r} (the longest has "
      f"{lengths.max(initial=0)}); lower data.num_frames or data.frame_stride, or build it with longer clips"
    )
  return indices


def open_split(info: DatasetInfo, split: str, *, min_frames: int = 0) -> ClipSource:
  """Opens the clips of one split that have at least `min_frames` frames; logs how many are skipped.

  Raises UserError if the data set has no such split, or every clip is too short.
  """
  indices, lengths = long_enough(info, split, min_frames), info.num_frames[split]
  if num_skipped := len(lengths) - len(indices):
    logging.warning(
      "%s/%s: skipped %d of %d clips, which have fewer than %d frames; the shortest has %d",
      *(info.name, split, num_skipped, len(lengths), min_frames, lengths.min()),
    )
  return ClipSource(open_builder(info.directory), split, indices, num_frames=lengths[indices].tolist())


def open_clips(config: DataConfig, split: str) -> ClipSource:
  """Opens the clips of a split that are long enough for a window of `config`; see `open_split`.

  Raises a UserError also if frames that are not resized are smaller than a window; of clips of several sizes, only the
  first is checked here.
  """
  source = open_split(load_info(config.name, config.data_dir), split, min_frames=config.clip_length)
  if config.resize == "none":
    first = source[0]
    transforms.check_crop(first["width"], first["height"], config.resolution)
  return source


@functools.cache
def _keep_freed_memory() -> None:
  """Makes glibc reuse freed memory of up to 24 MiB instead of returning it to the kernel after every record.

  glibc raises its mmap threshold to the size of the largest freed block. With records of 1.4 MB, reading and decoding
  a window of 16 frames takes 7 ms instead of 17.
  """
  np.empty(24 << 20, np.uint8)  # Freed at once; its pages are never touched.


def parse_clip(record: bytes) -> dict[str, Any]:
  """Parses a serialized `tf.train.Example` into an element of `ClipSource`.

  Raises ValueError or google.protobuf.message.DecodeError if the record is not a clip.
  """
  # TFDS's own decoding would also copy every frame of the clip.
  features = Example.FromString(record).features.feature
  if missing := _FIELDS - set(features):
    raise ValueError(f"a record has no {', '.join(sorted(missing))}")
  clip: dict[str, Any] = {"frames": features["frames"].bytes_list.value}
  if not clip["frames"]:
    raise ValueError("a record has no frames")
  for name in ("label", "height", "width"):
    (clip[name],) = features[name].int64_list.value
  (clip["fps"],) = features["fps"].float_list.value
  (clip["source"],) = features["source"].bytes_list.value
  return clip


def build_command(name: str, data_dir: str | Path) -> str:
  """Command that builds a data set: from its manifest, or guessed from its name if the manifest is unreadable."""
  try:
    manifest = json.loads((dataset_directory(name, data_dir) / MANIFEST).read_text())
    kind = manifest["builder"]
  except (OSError, ValueError, KeyError, TypeError):
    kind = "shape_motion" if re.match(r"shape_motion(?!_real)", name) else "video_folder"
  origin = {"shape_motion": "", "generated": " --workdir=RUN"}.get(kind, " --source=FOLDER")
  return f"vidgen data build {kind}{origin} --name={name} --data_dir={data_dir}"


def one_line(error: BaseException) -> str:
  """Message of an error without line breaks, or the name of its type if the message is empty."""
  return " ".join(str(error).split()) or type(error).__name__
