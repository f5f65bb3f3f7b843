"""Checks a built data set: its files against the manifest, its records against the index."""

import concurrent.futures
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from vidgen_jax.data import building, records
from vidgen_jax.data.decode import DAMAGED_IMAGE_ERRORS
from vidgen_jax.data.frames import decode_frame
from vidgen_jax.data.records import MANIFEST, ClipSource, one_line
from vidgen_jax.data.splits import split_hash
from vidgen_jax.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_Index = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
  """Result of checking the data set in a folder.

  Attributes:
    directory: folder of the data set.
    problems: one line per problem.
    clips: number of readable records.
    frames: number of frames of these records.
    bytes: size of all files.
  """

  directory: Path
  problems: tuple[str, ...]
  clips: int
  frames: int
  bytes: int


def verify_dataset(name: str, data_dir: str | Path, *, decode: bool = True) -> Verification:
  """Reads a data set and compares it with its manifest and its index, with a progress bar.

  With `decode`, every frame is decoded and its size compared with that in the record.

  Raises UserError if the data set is missing, or its manifest is unreadable or too old to have checksums.
  """
  directory = records.existing_directory(name, data_dir)
  manifest = _read_manifest(directory, remedy=f"{records.build_command(name, data_dir)} --overwrite")
  problems = [*_file_problems(directory, manifest["files"]), *_split_hash_problems(manifest)]
  opened: dict[str, ClipSource] = {}
  checks: list[_Check] = []
  try:
    builder = records.open_builder(directory)
    num_classes = builder.info.features["label"].num_classes
    opened = {split: ClipSource(builder, split) for split in builder.info.splits}
  except records.UNREADABLE as error:
    problems.append(f"the records cannot be opened: {one_line(error)}")
  else:
    indices = {split: _index_or_none(directory, split, problems) for split in opened}
    problems += _count_problems(manifest, opened, indices)
    checks = _check_records(opened, indices, num_classes=num_classes, decode=decode)
  return Verification(
    directory=directory,
    problems=(*problems, *_record_problems(checks, opened)),
    clips=sum(check.unreadable == "" for check in checks),
    frames=sum(check.frames for check in checks),
    bytes=sum(facts["bytes"] for facts in manifest["files"].values()),
  )


def _read_manifest(directory: Path, *, remedy: str) -> Mapping[str, Any]:
  path = directory / MANIFEST
  try:
    manifest = json.loads(path.read_text())
    if isinstance(manifest, dict) and "files" not in manifest:
      raise UserError(f"{path} lists no checksums, as it was built by an older version; build it again with: {remedy}")
    # Access everything that is used below, so that a malformed manifest is found here.
    _ = [(0 + facts["bytes"], facts["sha256"].lower()) for facts in manifest["files"].values()]
    _ = [0 + count for count in manifest["clips"].values()]
    _ = [(entry["split"], 0 + entry["clips"]) for entry in manifest["sources"] if entry["status"] == "used"]
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(f"{path} is damaged ({one_line(error)}); build it again with: {remedy}") from error
  return manifest


def _file_problems(directory: Path, table: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Missing, changed and additional files."""
  with tqdm(total=sum(facts["bytes"] for facts in table.values()), desc="checksums", unit="B", unit_scale=True) as bar:

    def check(name: str) -> str:
      problem = _file_problem(directory / name, table[name])
      bar.update(table[name]["bytes"])
      return problem

    found = [f"{name} {problem}" for name, problem in zip(table, _threaded(check, list(table)), strict=True) if problem]
  stray = sorted({*building.file_names(directory)} - {*table, MANIFEST})
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
    return f"has changed: its SHA-256 is {digest[:12]}..., not {expected['sha256'][:12]}..."
  return ""


def _split_hash_problems(manifest: Mapping[str, Any]) -> list[str]:
  if "split_hash" not in manifest:
    return []
  found = split_hash({entry.get("name"): entry.get("split") for entry in manifest["sources"]})
  if found == manifest["split_hash"]:
    return []
  return [f"{MANIFEST}: its sources have the split hash {found[:12]}..., not {manifest['split_hash'][:12]}..."]


def _index_or_none(directory: Path, split: str, problems: list[str]) -> _Index | None:
  try:
    return records.read_index(directory, split)
  except FileNotFoundError:
    return None  # _file_problems reports it.
  except records.UNREADABLE as error:
    problems.append(f"{records.index_file(split)} cannot be read: {one_line(error)}")
    return None


def _count_problems(
  manifest: Mapping[str, Any], opened: Mapping[str, ClipSource], indices: Mapping[str, _Index | None]
) -> list[str]:
  """Splits whose numbers of clips differ between shards, manifest and index."""
  by_source = Counter()
  for entry in manifest["sources"]:
    if entry["status"] == "used":
      by_source[entry["split"]] += entry["clips"]
  problems = []
  for split in sorted({*opened, *manifest["clips"], *by_source}):
    counts = {"the shards": len(opened.get(split, ())), f"{MANIFEST}'s clips": manifest["clips"].get(split, 0)}
    if manifest["sources"]:
      counts[f"{MANIFEST}'s sources"] = by_source[split]
    if (index := indices.get(split)) is not None:
      counts |= {f"{records.index_file(split)}'s {key}": len(values) for key, values in index.items()}
    if len(set(counts.values())) > 1:
      listed = ", ".join(f"{count} by {where}" for where, count in counts.items())
      problems.append(f"split {split!r} has {listed}")
  return problems


class _Check(NamedTuple):
  """Result of checking record `place` of a split; `unreadable` is the reason why it could not be read, or ''."""

  split: str
  place: int
  problems: list[str]
  frames: int = 0
  unreadable: str = ""


def _check_records(
  opened: Mapping[str, ClipSource], indices: Mapping[str, _Index | None], *, num_classes: int, decode: bool
) -> list[_Check]:
  places = [(split, place) for split, source in opened.items() for place in range(len(source))]
  with tqdm(total=len(places), desc="records", unit="clip") as bar:

    def check(where: tuple[str, int]) -> _Check:
      split, place = where
      try:
        record = opened[split][place]
      except UserError as error:
        return _Check(split, place, [], unreadable=one_line(error.__cause__ or error))
      finally:
        bar.update()
      problems = _label_problems(record, indices[split], place, num_classes=num_classes)
      return _Check(split, place, problems + (_frame_problems(record) if decode else []), len(record["frames"]))

    return _threaded(check, places)


def _label_problems(record: Mapping[str, Any], index: _Index | None, place: int, *, num_classes: int) -> list[str]:
  label, problems = record["label"], []
  found = {"num_frames": (len(record["frames"]), "{} frames"), "label": (label, "the label {}")}
  for name, (value, text) in found.items():
    # _count_problems reports an index that is too short.
    if index is not None and place < len(index[name]) and index[name][place] != value:
      problems.append(f"has {text.format(value)}, {index[name][place]} by the index")
  if not 0 <= label < num_classes:
    problems.append(f"has the label {label}, which must be below {num_classes}, the number of classes")
  return problems


def _frame_problems(record: Mapping[str, Any]) -> list[str]:
  """The first frame that cannot be decoded, and the first whose size differs from the record's."""
  expected = (record["width"], record["height"])
  undecodable, sizes = [], []
  for number, data in enumerate(record["frames"]):
    try:
      size = decode_frame(data, channels=3).size
    except (*DAMAGED_IMAGE_ERRORS, MemoryError) as error:
      undecodable.append(f"frame {number} cannot be decoded ({one_line(error)})")
      continue
    if size != expected:
      sizes.append(f"frame {number} has {size[0]}x{size[1]} pixels, the record says {expected[0]}x{expected[1]}")
  return [kind[0] + (f", and {len(kind) - 1} more" if kind[1:] else "") for kind in (undecodable, sizes) if kind]


def _record_problems(checks: Sequence[_Check], opened: Mapping[str, ClipSource]) -> Iterator[str]:
  """A line per shard with unreadable records, and one per problem of the other records."""
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
  """`map` with a thread per core: reading, hashing and decoding release the GIL."""
  executor = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
  try:
    return list(executor.map(function, items))
  finally:
    executor.shutdown(cancel_futures=True)
