"""From what a user gives to a set of clips."""

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.arrays import ArrayReader, SamplesReader, open_array_file
from vidgen_jax.scores.clip_sets.clip_set import ClipSet
from vidgen_jax.scores.clip_sets.datasets import DatasetReader, find_dataset
from vidgen_jax.scores.clip_sets.images import FramesReader, VideoReader
from vidgen_jax.scores.clip_sets.listing import ARRAY_SUFFIXES, Entry, class_labels, list_folder
from vidgen_jax.scores.clip_sets.npy import Scratch
from vidgen_jax.scores.clip_sets.options import ClipOptions
from vidgen_jax.scores.clip_sets.readers import Reader, UnusableFileError
from vidgen_jax.scores.clip_sets.threads import NUM_THREADS, ordered_map

_MANY_FILES = 1000
_ORDER_SEED = 0


def open_clips(
  path: str | Path, options: ClipOptions, *, what: str = "--real", data_dir: str | Path = DEFAULT_DATA_DIR
) -> ClipSet:
  """Opens clips of any origin.

  - A folder, with everything below it, in the order of the names: videos, frame strips, .npy and .npz files of one clip
    [T, H, W, C] or several [N, T, H, W, C], and folders that hold the numbered frames of one clip. Where every clip
    lies in one of two or more top folders, these are its class. Every file is decoded once, as far as its window
    reaches, so that damaged and short ones are known and left out before anything is computed.
  - One such file. A `samples.npz` of `vidgen sample` gives every sample, conditioning frames included.
  - `NAME/SPLIT` of a prepared data set, or `NAME`: its split 'test'.

  Arrays may have C before or after T as well, if only one of their axes can be C.

  Args:
    path: what the user gave.
    options: the window that is wanted.
    what: the flag that gave it, for messages; `{what}_range` is taken to be the flag of the values' range.
    data_dir: folder of the prepared data sets.

  Returns:
    The set. Files that cannot be used are in its `skipped`, and one warning counts them.

  Raises:
    UserError: if there is no usable clip, or the clips' sizes, lengths, layouts or values are not as they should be.
  """
  place = Path(path).expanduser()
  if place.is_dir():
    return _open_folder(place, options, what)
  if place.is_file():
    return _open_file(place, options, what)
  return _open_dataset(str(path), options, what, data_dir)


def _open_folder(folder: Path, options: ClipOptions, what: str) -> ClipSet:
  try:
    listing = list_folder(folder)
  except OSError as error:
    raise UserError(f"{what}={folder} cannot be listed: {error}; see to its permissions") from error
  if not listing.entries and not listing.skipped:
    raise UserError(f"{what}={folder} holds no files; give a folder of videos, frames or arrays")
  if len(listing.entries) > _MANY_FILES:
    logging.info("%s=%s: looking through %d files", what, folder, len(listing.entries))
  scratch = Scratch()
  skipped, found = list(listing.skipped), []
  # A few of many files are drawn, always the same: the first by name may all be of one class.
  order = np.arange(len(listing.entries))
  if options.max_clips:
    order = np.random.default_rng(_ORDER_SEED).permutation(order)
  num_clips = num_opened = 0
  with contextlib.closing(_open_entries([listing.entries[i] for i in order], options, scratch, what)) as opened:
    for place, (entry, reader) in zip(order, opened, strict=False):
      num_opened += 1
      if isinstance(reader, UnusableFileError):
        skipped.append((entry.name, str(reader)))
        continue
      found.append((place, entry, reader))
      num_clips += len(reader)
      if options.max_clips and num_clips >= options.max_clips:
        break
  if skipped:
    logging.warning("%s=%s: skipped %d, the first %s: %s", what, folder, len(skipped), *skipped[0])
  if not found:
    name, reason = skipped[0]
    raise UserError(f"{what}={folder} holds no usable clip: skipped {len(skipped)}, the first {name}: {reason}")
  found.sort(key=lambda opened: opened[0])
  _, entries, readers = zip(*found, strict=True)
  _log_layouts(readers, folder, what)
  # Files beyond `max_clips` count for the classes, so that a label means the same however many clips are read.
  labels, class_names = class_labels(
    [entry.name for entry in (*entries, *(listing.entries[i] for i in order[num_opened:]))]
  )
  if labels is not None:
    labels = np.repeat(labels[: len(readers)], [len(reader) for reader in readers])
  return ClipSet(
    str(folder), readers, options, labels=labels, class_names=class_names, skipped=skipped, scratch=scratch, what=what
  )


def _open_file(file: Path, options: ClipOptions, what: str) -> ClipSet:
  scratch = Scratch()
  kind = "array" if file.suffix.lower() in ARRAY_SUFFIXES else "video"
  try:
    reader = _open_entry(Entry(file, file.name, kind), options, scratch, what)
  except UnusableFileError as error:
    raise UserError(f"{what}={file} cannot be used: {error}") from error
  _log_layouts([reader], file, what)
  return ClipSet(str(file), [reader], options, scratch=scratch, what=what)


def _open_dataset(path: str, options: ClipOptions, what: str, data_dir: str | Path) -> ClipSet:
  info, split = find_dataset(path, data_dir=data_dir, what=what)
  name = f"{info.name}/{split}"
  reader = DatasetReader(info, split, options, what=what)
  if reader.skipped:
    logging.warning("%s=%s: skipped %d, the first %s: %s", what, name, len(reader.skipped), *reader.skipped[0])
  if not len(reader):
    raise UserError(f"{what}={name} holds no usable clip: the first {': '.join(reader.skipped[0])}")
  labels = info.labels[split][reader.indices]
  return ClipSet(
    name, [reader], options, labels=labels, class_names=info.class_names, skipped=reader.skipped, what=what
  )


def _open_entries(
  entries: Sequence[Entry], options: ClipOptions, scratch: Scratch, what: str
) -> Generator[tuple[Entry, Reader | UnusableFileError], None, None]:
  """Opens files by several threads, in their order."""

  def attempt(entry: Entry) -> tuple[Entry, Reader | UnusableFileError]:
    try:
      return entry, _open_entry(entry, options, scratch, what)
    except UnusableFileError as error:
      return entry, error

  return ordered_map(attempt, entries, ahead=4 * NUM_THREADS)


def _open_entry(entry: Entry, options: ClipOptions, scratch: Scratch, what: str) -> Reader:
  if entry.kind == "array":
    return open_array_file(entry.path, entry.name, options, scratch=scratch, what=what)
  if entry.kind == "frames":
    return FramesReader(entry.frames, entry.name, options, what=what)
  return VideoReader(entry.path, entry.name, options, what=what)


def _log_layouts(readers: Sequence[Reader], path: Path, what: str) -> None:
  """Says how arrays are read, which is the one thing about them that was guessed."""
  arrays = [reader for reader in readers if isinstance(reader, ArrayReader | SamplesReader)]
  for layout in sorted({f"{', '.join(reader.layout)} of {reader.dtype}" for reader in arrays}):
    logging.info("%s=%s: the axes of a clip are %s", what, path, layout)
  samples = sum(len(reader) for reader in arrays if isinstance(reader, SamplesReader))
  if samples:
    logging.info("%s=%s: %d clips are samples, conditioning frames included", what, path, samples)
