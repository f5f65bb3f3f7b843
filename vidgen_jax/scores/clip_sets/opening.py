"""Opens the clips that a user names: a folder, a file, or a prepared data set."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vidgen_jax.data import records
from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.data.frames import decode_frame
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.arrays import Scratch, open_array_file
from vidgen_jax.scores.clip_sets.clip_set import NUM_THREADS, ClipSet, ordered_map
from vidgen_jax.scores.clip_sets.listing import Entry, class_labels, file_kind, list_folder
from vidgen_jax.scores.clip_sets.reader import ClipOptions, Reader, UnusableFileError
from vidgen_jax.scores.clip_sets.videos import frame_images, open_frames, open_video

_MANY_FILES = 1000
_ORDER_SEED = 0


def open_clips(
  path: str | Path, options: ClipOptions, *, what: str = "--real", data_dir: str | Path = DEFAULT_DATA_DIR
) -> ClipSet:
  """Opens clips of any origin.

  - A folder with its subfolders, sorted by name: videos, frame strips, .npy and .npz files of one clip [T, H, W, C] or
    several [N, T, H, W, C], and folders with the numbered frames of one clip. If every clip is in one of two or more
    top folders, these are its class. Every file is decoded once, as far as its window reaches, so that damaged and
    short files are known and left out before anything is computed.
  - One such file. From a `samples.npz` of `vidgen sample`, every sample with its conditioning frames.
  - `NAME/SPLIT` of a prepared data set, or `NAME` for its split 'test': the clips that are long enough.

  Arrays can also have C before or after T, if only one of their axes can be C.

  Args:
    path: file, folder or data set.
    options: requested window.
    what: flag of the set, for messages; `{what}_range` must be the flag of its value range.
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
    return _open_dataset(str(path), options, what=what, data_dir=data_dir)
  scratch = Scratch()
  reader = _open_entry(Entry(location, location.name, file_kind(location)), options, scratch, what)
  if isinstance(reader, UnusableFileError):
    raise UserError(f"{what}={location} cannot be used: {reader}") from reader
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
  opened = ordered_map(lambda i: _open_entry(entries[i], options, scratch, what), order, ahead=4 * NUM_THREADS)
  with contextlib.closing(opened):
    for index, reader in zip(order, opened, strict=False):
      if isinstance(reader, UnusableFileError):
        skipped.append((entries[index].name, str(reader)))
        unusable.add(index)
        continue
      found[index] = reader
      num_clips += len(reader.names)
      if options.max_clips and num_clips >= options.max_clips:
        break
  _log_skipped(skipped, folder, what)
  if not found:
    name, reason = skipped[0]
    raise UserError(f"{what}={folder} holds no usable clip: skipped {len(skipped)}, the first {name}: {reason}")
  readers = [found[index] for index in sorted(found)]
  _log_layouts(readers, folder, what)
  # Files beyond `max_clips` count for the classes, so that a label does not depend on the number of clips.
  usable = [*sorted(found), *(i for i in range(len(entries)) if i not in found and i not in unusable)]
  labels, class_names = class_labels([entries[i].name for i in usable])
  if labels is not None:
    labels = np.repeat(labels[: len(readers)], [len(reader.names) for reader in readers])
  return ClipSet(
    str(folder), readers, options, labels=labels, class_names=class_names, skipped=skipped, scratch=scratch, what=what
  )


def _open_entry(entry: Entry, options: ClipOptions, scratch: Scratch, what: str) -> Reader | UnusableFileError:
  try:
    if entry.kind == "array":
      return open_array_file(entry.path, entry.name, options, scratch=scratch, what=what)
    if entry.kind == "frames":
      return open_frames(entry.frames, entry.name, options)
    return open_video(entry.path, entry.name, options)
  except UnusableFileError as error:
    return error


def _open_dataset(path: str, options: ClipOptions, *, what: str, data_dir: str | Path) -> ClipSet:
  info, split = _find_dataset(path, data_dir=data_dir, what=what)
  name, lengths, clips = f"{info.name}/{split}", info.num_frames[split], records.open_split(info, split)
  skipped, windows = [], {}
  for index, length in enumerate(lengths):
    try:
      windows[index] = options.wanted(int(length))
    except UnusableFileError as error:
      skipped.append((f"{name}[{index}]", str(error)))
  _log_skipped(skipped, name, what)
  indices = list(windows)[: options.max_clips or None]
  if not indices:
    raise UserError(f"{what}={name} holds no usable clip: the first {': '.join(skipped[0])}")
  names, first = [f"{name}[{index}]" for index in indices], indices[0]
  other = next((index for index in indices if lengths[index] != lengths[first]), None)
  if not options.num_frames and other is not None:
    raise UserError(
      f"{what}={name} mixes lengths: {names[0]} has {lengths[first]} frames, {name}[{other}] has {lengths[other]}; "
      "cut them with --num_frames=N"
    )

  def read(index: int) -> np.ndarray:
    frames = clips[indices[index]]["frames"]
    return frame_images((decode_frame(frames[i], channels=3) for i in windows[indices[index]]), options)

  size = options.resolution or None
  reader = Reader(names=names, shape=(len(windows[first]), size, size), read=read)
  labels = info.labels[split][indices]
  return ClipSet(name, [reader], options, labels=labels, class_names=info.class_names, skipped=skipped, what=what)


def _find_dataset(path: str, *, data_dir: str | Path, what: str) -> tuple[records.DatasetInfo, str]:
  name, _, split = path.rstrip("/").partition("/")
  is_name = name.replace("_", "").replace("-", "").isalnum() and "/" not in split
  if not is_name or not (records.dataset_directory(name, data_dir) / records.MANIFEST).is_file():
    raise UserError(
      f"{what}={path} is neither a file or folder nor a data set NAME/SPLIT prepared in {Path(data_dir).expanduser()}"
    )
  info = records.load_info(name, data_dir)
  split = split or "test"
  if split not in info.num_clips:
    known = ", ".join(f"{what}={name}/{known}" for known in sorted(info.num_clips))
    raise UserError(f"{what}={path}: data set {name} has no split {split!r}; give one of {known}")
  return info, split


def _log_skipped(skipped: Sequence[tuple[str, str]], name: object, what: str) -> None:
  if skipped:
    logging.warning("%s=%s: skipped %d, the first %s: %s", what, name, len(skipped), *skipped[0])


def _log_layouts(readers: Sequence[Reader], path: Path, what: str) -> None:
  # Only the axes of an array are guessed.
  for layout in sorted({reader.layout for reader in readers if reader.layout}):
    logging.info("%s=%s: the axes of a clip are %s", what, path, layout)
  num_samples = sum(len(reader.names) for reader in readers if reader.is_samples)
  if num_samples:
    logging.info("%s=%s: %d clips are samples, conditioning frames included", what, path, num_samples)
