"""Whether a built data set still is what was built: its files against its manifest, its records against its index."""

import concurrent.futures
import dataclasses
import json
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from vidgen_jax.data import building, records
from vidgen_jax.data.datasets import split_hash
from vidgen_jax.data.frames import decode_frame
from vidgen_jax.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_RECORDS_OF_A_TASK = 16
_UNDECODABLE = (
  *(OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError, MemoryError),
  *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises for bytes that are no image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
  """What was found.

  Attributes:
    directory: folder of the data set.
    problems: a line each; none if the data set is sound.
    clips: records that could be read.
    frames: of these records.
    bytes: of the files.
  """

  directory: Path
  problems: tuple[str, ...]
  clips: int
  frames: int
  bytes: int


def verify_dataset(name: str, data_dir: str | Path, *, decode: bool = True) -> Verification:
  """Reads a data set and compares it with its manifest and its index; a bar shows how far it is.

  Args:
    name: name of the data set.
    data_dir: folder of all data sets.
    decode: whether to decode every frame too, and to compare its size with the record's.

  Returns:
    What was found; nothing is changed.

  Raises:
    UserError: if there is no such data set, or its manifest is unreadable or was written before checksums were.
  """
  directory = records.existing_directory(name, data_dir)
  manifest = _read_manifest(directory, remedy=f"{records.build_command(name, data_dir)} --overwrite")
  problems = [*_file_problems(directory, manifest["files"]), *_split_hash_problems(manifest)]
  try:
    builder = records.open_builder(directory)
    classes, splits = builder.info.features["label"].num_classes, tuple(builder.info.splits)
    opened = {split: records.ClipSource(builder, split) for split in splits}
  except records.UNREADABLE as error:
    problems.append(f"the records cannot be opened: {records.one_line(error)}")
    opened, indices, checks = {}, {}, []
  else:
    indices = {split: _index_or_none(directory, split, problems) for split in splits}
    problems += _count_problems(manifest, opened, indices)
    checks = _check_records(opened, indices, classes=classes, decode=decode)
  return Verification(
    directory=directory,
    problems=(*problems, *_record_problems(checks, opened)),
    clips=sum(check.unreadable == "" for check in checks),
    frames=sum(check.frames for check in checks),
    bytes=sum(facts["bytes"] for facts in manifest["files"].values()),
  )


def _read_manifest(directory: Path, *, remedy: str) -> Mapping[str, Any]:
  path = directory / records.MANIFEST
  try:
    manifest = json.loads(path.read_text())
    if isinstance(manifest, dict) and "files" not in manifest:
      raise UserError(f"{path} lists no checksums, as it was built by an older version; build it again with: {remedy}")
    # What is read below is touched once here, where a manifest that was changed by hand is an error of its own.
    _ = [(0 + facts["bytes"], facts["sha256"].lower()) for facts in manifest["files"].values()]
    _ = [0 + count for count in manifest["clips"].values()]
    _ = [(entry["split"], 0 + entry["clips"]) for entry in manifest["sources"] if entry["status"] == "used"]
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(f"{path} is damaged ({records.one_line(error)}); build it again with: {remedy}") from error
  return manifest


def _file_problems(directory: Path, table: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Files that are missing, are not what was written, or were not written."""
  with tqdm(total=sum(facts["bytes"] for facts in table.values()), desc="checksums", unit="B", unit_scale=True) as bar:

    def check(name: str) -> str:
      problem = _file_problem(directory / name, table[name])
      bar.update(table[name]["bytes"])
      return problem

    found = [f"{name} {problem}" for name, problem in zip(table, _threaded(check, list(table)), strict=True) if problem]
  stray = sorted({*building.file_names(directory)} - {*table, records.MANIFEST})
  return found + [f"{name} does not belong to the data set; remove it" for name in stray]


def _file_problem(path: Path, expected: Mapping[str, Any]) -> str:
  try:
    size = path.stat().st_size
    if size != expected["bytes"]:
      return f"has {size} bytes, not the {expected['bytes']} that were written"
    digest = building.sha256_of(path)
  except FileNotFoundError:
    return "is missing"
  except OSError as error:
    return f"cannot be read: {error.strerror or error}"
  if digest != expected["sha256"]:
    return f"is not what was written: its SHA-256 is {digest[:12]}..., not {expected['sha256'][:12]}..."
  return ""


def _split_hash_problems(manifest: Mapping[str, Any]) -> list[str]:
  """Whether the videos of a published data set are still on the sides that its hash stands for."""
  if "split_hash" not in manifest:
    return []
  found = split_hash({entry.get("name"): entry.get("split") for entry in manifest["sources"]})
  if found == manifest["split_hash"]:
    return []
  return [f"{records.MANIFEST}: its sources have the split hash {found[:12]}..., not {manifest['split_hash'][:12]}..."]


def _index_or_none(directory: Path, split: str, problems: list[str]) -> Mapping[str, np.ndarray] | None:
  """The index of a split; that it is missing is known from the table of files."""
  try:
    return records.read_index(directory, split)
  except FileNotFoundError:
    return None
  except records.UNREADABLE as error:
    problems.append(f"{records.index_file(split)} cannot be read: {records.one_line(error)}")
    return None


def _count_problems(
  manifest: Mapping[str, Any],
  opened: Mapping[str, Sequence[Any]],
  indices: Mapping[str, Mapping[str, np.ndarray] | None],
) -> list[str]:
  """Whether all that count the clips of a split agree."""
  by_source = Counter()
  for entry in manifest["sources"]:
    if entry["status"] == "used":
      by_source[entry["split"]] += entry["clips"]
  problems = []
  for split in sorted({*opened, *manifest["clips"], *by_source}):
    counts = {"the shards": len(opened.get(split, ())), f"{records.MANIFEST}'s clips": manifest["clips"].get(split, 0)}
    if manifest["sources"]:
      counts[f"{records.MANIFEST}'s sources"] = by_source[split]
    if (index := indices.get(split)) is not None:
      counts |= {f"{records.index_file(split)}'s {key}": len(values) for key, values in index.items()}
    if len(set(counts.values())) > 1:
      told = ", ".join(f"{count} by {what}" for what, count in counts.items())
      problems.append(f"split {split!r} has {told}")
  return problems


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Check:
  """What was found in one record.

  Attributes:
    split: its split.
    place: its index in the split.
    problems: without the name of the record.
    unreadable: why it could not be read; '' if it was.
    frames: how many it has.
  """

  split: str
  place: int
  problems: tuple[str, ...] = ()
  unreadable: str = ""
  frames: int = 0


def _check_records(
  opened: Mapping[str, records.ClipSource],
  indices: Mapping[str, Mapping[str, np.ndarray] | None],
  *,
  classes: int,
  decode: bool,
) -> list[_Check]:
  """Checks every record, in order."""
  tasks = [
    (split, range(start, min(start + _RECORDS_OF_A_TASK, len(source))))
    for split, source in opened.items()
    for start in range(0, len(source), _RECORDS_OF_A_TASK)
  ]
  with tqdm(total=sum(map(len, opened.values())), desc="records", unit="clip") as bar:

    def check(task: tuple[str, range]) -> list[_Check]:
      split, places = task
      found = []
      for place in places:
        found.append(_check_record(opened[split], indices[split], split, place, classes=classes, decode=decode))
        bar.update()
      return found

    return [found for several in _threaded(check, tasks) for found in several]


def _check_record(
  source: records.ClipSource,
  index: Mapping[str, np.ndarray] | None,
  split: str,
  place: int,
  *,
  classes: int,
  decode: bool,
) -> _Check:
  try:
    record = source[place]
  except UserError as error:
    return _Check(split=split, place=place, unreadable=records.one_line(error.__cause__ or error))
  num_frames, label = len(record["frames"]), int(record["label"])
  problems = []
  # An index that is too short is told by the counts.
  if index is not None and place < len(index["num_frames"]) and index["num_frames"][place] != num_frames:
    problems.append(f"has {num_frames} frames, {index['num_frames'][place]} by the index")
  if index is not None and place < len(index["label"]) and index["label"][place] != label:
    problems.append(f"has the label {label}, {index['label'][place]} by the index")
  if not 0 <= label < classes:
    problems.append(f"has the label {label}, which is none of the {classes} classes")
  if decode:
    problems += _frame_problems(record)
  return _Check(split=split, place=place, problems=tuple(problems), frames=num_frames)


def _frame_problems(record: Mapping[str, Any]) -> list[str]:
  """The first frame that is no image, and the first that has not the size of the record."""
  expected = (int(record["width"]), int(record["height"]))
  undecodable, sizes = [], []
  for number, data in enumerate(record["frames"]):
    try:
      size = decode_frame(bytes(data), channels=3).size
    except _UNDECODABLE as error:
      undecodable.append(f"frame {number} cannot be decoded ({records.one_line(error)})")
      continue
    if size != expected:
      sizes.append(f"frame {number} has {size[0]}x{size[1]} pixels, the record says {expected[0]}x{expected[1]}")
  return [told[0] + (f", and {len(told) - 1} more" if told[1:] else "") for told in (undecodable, sizes) if told]


def _record_problems(checks: Sequence[_Check], opened: Mapping[str, records.ClipSource]) -> Iterator[str]:
  """A line for each shard with records that cannot be read, and one for each problem of the others."""
  by_shard: dict[str, list[_Check]] = {}
  for check in checks:
    if check.unreadable:
      by_shard.setdefault(opened[check.split].shard(check.place), []).append(check)
  for shard, unreadable in by_shard.items():
    first = unreadable[0]
    yield f"{shard}: {len(unreadable)} records cannot be read, the first is {first.place} ({first.unreadable})"
  for check in checks:
    yield from (f"record {check.place} of split {check.split!r} {problem}" for problem in check.problems)


def _threaded(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
  """`map` by a thread for each core: reading, hashing and decoding leave Python's lock."""
  executor = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
  try:
    return list(executor.map(function, items))
  finally:
    executor.shutdown(cancel_futures=True)
