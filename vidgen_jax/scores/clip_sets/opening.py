"""Opens the clips that a user names."""

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.arrays import Scratch, open_array_file
from vidgen_jax.scores.clip_sets.clip_set import ClipSet
from vidgen_jax.scores.clip_sets.datasets import open_dataset
from vidgen_jax.scores.clip_sets.listing import Entry, class_labels, file_kind, list_folder
from vidgen_jax.scores.clip_sets.options import ClipOptions
from vidgen_jax.scores.clip_sets.reader import Reader, UnusableFileError
from vidgen_jax.scores.clip_sets.threads import NUM_THREADS, ordered_map
from vidgen_jax.scores.clip_sets.videos import open_frames, open_video

_MANY_FILES = 1000
_ORDER_SEED = 0


def open_clips(
  path: str | Path, options: ClipOptions, *, what: str = "--real", data_dir: str | Path = DEFAULT_DATA_DIR
) -> ClipSet:
  """Opens clips of any origin.

  - A folder with its subfolders, sorted by name: videos, frame strips, .npy and .npz files of one clip [T, H, W, C] or
    several [N, T, H, W, C], and folders that hold the numbered frames of one clip. If every clip is in one of two or
    more top folders, these are its class. Every file is decoded once, as far as its window reaches, so that damaged
    and short files are known and left out before anything is computed.
  - One such file. From a `samples.npz` of `vidgen sample`, every sample with its conditioning frames.
  - `NAME/SPLIT` of a prepared data set, or `NAME` for its split 'test'.

  Arrays can also have C in front of or behind T, if only one of their axes can be C.

  Args:
    path: file, folder or data set.
    options: requested window.
    what: flag that names the set, for messages; `{what}_range` must be the flag of its value range.
    data_dir: folder of the prepared data sets.

  Returns:
    The set. Its `skipped` lists the files that cannot be used; one warning counts them.

  Raises:
    UserError: if there is no usable clip, or sizes, lengths, layouts or values of the clips are wrong.
  """
  location = Path(path).expanduser()
  if location.is_dir():
    return _open_folder(location, options, what)
  if not location.is_file():
    return open_dataset(str(path), options, what=what, data_dir=data_dir)
  scratch = Scratch()
  try:
    reader = _open_entry(Entry(location, location.name, file_kind(location)), options, scratch, what)
  except UnusableFileError as error:
    raise UserError(f"{what}={location} cannot be used: {error}") from error
  _log_layouts([reader], location, what)
  return ClipSet(str(location), [reader], options, scratch=scratch, what=what)


def _open_folder(folder: Path, options: ClipOptions, what: str) -> ClipSet:
  try:
    entries, skipped = list_folder(folder)
  except OSError as error:
    raise UserError(f"{what}={folder} cannot be listed: {error}; check its permissions") from error
  if not entries and not skipped:
    raise UserError(f"{what}={folder} holds no files; give a folder of videos, frames or arrays")
  if len(entries) > _MANY_FILES:
    logging.info("%s=%s: opening %d files", what, folder, len(entries))
  # The first files by name may all belong to one class.
  order = list(range(len(entries)))
  if options.max_clips:
    order = np.random.default_rng(_ORDER_SEED).permutation(order).tolist()
  scratch, found, unusable, num_clips = Scratch(), {}, set(), 0
  with contextlib.closing(_open_entries([entries[i] for i in order], options, scratch, what)) as opened:
    for place, reader in zip(order, opened, strict=False):
      if isinstance(reader, UnusableFileError):
        skipped.append((entries[place].name, str(reader)))
        unusable.add(place)
        continue
      found[place] = reader
      num_clips += len(reader.names)
      if options.max_clips and num_clips >= options.max_clips:
        break
  if skipped:
    logging.warning("%s=%s: skipped %d, the first %s: %s", what, folder, len(skipped), *skipped[0])
  if not found:
    name, reason = skipped[0]
    raise UserError(f"{what}={folder} holds no usable clip: skipped {len(skipped)}, the first {name}: {reason}")
  readers = [found[place] for place in sorted(found)]
  _log_layouts(readers, folder, what)
  # Files beyond `max_clips` count for the classes, so that a label does not depend on the number of clips.
  usable = [*sorted(found), *(i for i in range(len(entries)) if i not in found and i not in unusable)]
  labels, class_names = class_labels([entries[i].name for i in usable])
  if labels is not None:
    labels = np.repeat(labels[: len(readers)], [len(reader.names) for reader in readers])
  return ClipSet(
    str(folder), readers, options, labels=labels, class_names=class_names, skipped=skipped, scratch=scratch, what=what
  )


def _open_entries(
  entries: Sequence[Entry], options: ClipOptions, scratch: Scratch, what: str
) -> Generator[Reader | UnusableFileError, None, None]:
  def attempt(entry: Entry) -> Reader | UnusableFileError:
    try:
      return _open_entry(entry, options, scratch, what)
    except UnusableFileError as error:
      return error

  return ordered_map(attempt, entries, ahead=4 * NUM_THREADS)


def _open_entry(entry: Entry, options: ClipOptions, scratch: Scratch, what: str) -> Reader:
  if entry.kind == "array":
    return open_array_file(entry.path, entry.name, options, scratch=scratch, what=what)
  if entry.kind == "frames":
    return open_frames(entry.frames, entry.name, options)
  return open_video(entry.path, entry.name, options)


def _log_layouts(readers: Sequence[Reader], path: Path, what: str) -> None:
  # The axes of an array are the only thing about it that is guessed.
  for layout in sorted({reader.layout for reader in readers if reader.layout}):
    logging.info("%s=%s: the axes of a clip are %s", what, path, layout)
  num_samples = sum(len(reader.names) for reader in readers if reader.is_samples)
  if num_samples:
    logging.info("%s=%s: %d clips are samples, conditioning frames included", what, path, num_samples)
