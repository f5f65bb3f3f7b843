"""Checks a built data set: its files against the manifest, its records against the index."""

import concurrent.futures
import dataclasses
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vidgen_jax.data import building, records
from vidgen_jax.data.decode import DAMAGED_IMAGE_ERRORS
from vidgen_jax.data.records import MANIFEST, ClipSource, one_line
from vidgen_jax.data.splits import split_hash
from vidgen_jax.data.transforms import decode_frame
from vidgen_jax.errors import UserError

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
  problems = _file_problems(directory, manifest["files"])
  found = split_hash({entry.get("name"): entry.get("split") for entry in manifest["sources"]})
  if found != (expected := manifest.get("split_hash", found)):
    problems.append(f"{MANIFEST}: its sources have the split hash {found[:12]}..., not {expected[:12]}...")
  num_clips = num_frames = 0
  try:
    builder = records.open_builder(directory)
    num_classes = builder.info.features["label"].num_classes
    opened = {split: ClipSource(builder, split) for split in builder.info.splits}
  except records.UNREADABLE as error:
    problems.append(f"the records cannot be opened: {one_line(error)}")
  else:
    indices = {split: _index_or_none(directory, split, problems) for split in opened}
    problems += _count_problems(manifest, opened, indices)
    in_records, num_clips, num_frames = _check_records(opened, indices, num_classes=num_classes, decode=decode)
    problems += in_records
  size = sum(facts["bytes"] for facts in manifest["files"].values())
  return Verification(directory=directory, problems=tuple(problems), clips=num_clips, frames=num_frames, bytes=size)


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
      return problem and f"{name} {problem}"

    found = [problem for problem in _threaded(check, list(table)) if problem]
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
    for key, values in (indices.get(split) or {}).items():
      counts[f"{records.index_file(split)}'s {key}"] = len(values)
    if len(set(counts.values())) > 1:
      listed = ", ".join(f"{count} by {where}" for where, count in counts.items())
      problems.append(f"split {split!r} has {listed}")
  return problems


def _check_records(
  opened: Mapping[str, ClipSource], indices: Mapping[str, _Index | None], *, num_classes: int, decode: bool
) -> tuple[list[str], int, int]:
  """(problems, number of readable records, number of their frames)."""
  places = [(split, place) for split, source in opened.items() for place in range(len(source))]
  unreadable: dict[str, list[str]] = defaultdict(list)
  problems, num_frames = [], []
  with tqdm(total=len(places), desc="records", unit="clip") as bar:

    def check(where: tuple[str, int]) -> tuple[str, list[str], int]:
      """(shard if the record cannot be read, problems, number of frames)."""
      split, place = where
      bar.update()
      try:
        record = opened[split][place]
      except UserError as error:
        return opened[split].shard(place), [f"{place} ({one_line(error.__cause__ or error)})"], 0
      found = _label_problems(record, indices[split], place, num_classes=num_classes)
      found += _frame_problems(record) if decode else []
      return "", [f"record {place} of split {split!r} {problem}" for problem in found], len(record["frames"])

    for shard, found, count in _threaded(check, places):
      if shard:
        unreadable[shard] += found
      else:
        problems += found
        num_frames.append(count)
  damaged = [
    f"{shard}: {len(found)} records cannot be read, the first is {found[0]}" for shard, found in unreadable.items()
  ]
  return damaged + problems, len(num_frames), sum(num_frames)


def _label_problems(record: Mapping[str, Any], index: _Index | None, place: int, *, num_classes: int) -> list[str]:
  label, problems = record["label"], []
  for name, value in {"num_frames": len(record["frames"]), "label": label}.items():
    # _count_problems reports an index that is too short.
    if index is not None and place < len(index[name]) and index[name][place] != value:
      problems.append(f"has {name} {value}, {index[name][place]} by the index")
  if not 0 <= label < num_classes:
    problems.append(f"has label {label}, which must be below {num_classes}, the number of classes")
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


def _threaded(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
  """`map` with a thread per core: reading, hashing and decoding release the GIL."""
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
    return list(executor.map(function, items))
