"""Opens the clips that a user names: a folder, a file, or a prepared data set."""

import contextlib
import functools
import re
from pathlib import Path

import numpy as np
from absl import logging

from vidgen_jax.data import records
from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.data.decode import UnreadableVideoError
from vidgen_jax.data.transforms import decode_frame
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.arrays import Scratch, open_array_file
from vidgen_jax.scores.clip_sets.clip_set import NUM_THREADS, ClipSet, ordered_map
from vidgen_jax.scores.clip_sets.listing import Entry, class_folders, list_folder
from vidgen_jax.scores.clip_sets.reader import Clip, ClipOptions
from vidgen_jax.scores.clip_sets.videos import frame_images, open_frames, open_video


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
    The set. Its `skipped` lists the files that cannot be used.

  Raises:
    UserError: if there is no usable clip, or sizes, lengths, layouts or values of the clips are wrong.
  """
  location = Path(path).expanduser()
  if location.is_dir():
    return _open_folder(location, options, what)
  if not location.is_file():
    return _open_dataset(str(path), options, what=what, data_dir=data_dir)
  scratch = Scratch()
  opened = _open_entry(Entry(location, location.name), options, scratch, what)
  if isinstance(opened, Exception):
    raise UserError(f"{what}={location} cannot be used: {opened}") from opened
  return ClipSet(str(location), opened, options, scratch=scratch, what=what)


def check_source(path: str, *, what: str, data_dir: str | Path) -> None:
  """Raises the UserError of `open_clips` for a source that does not exist; opens nothing."""
  if not (location := Path(path).expanduser()).is_dir() and not location.is_file():
    _find_dataset(path, what=what, data_dir=data_dir)


def _open_folder(folder: Path, options: ClipOptions, what: str) -> ClipSet:
  try:
    entries, skipped = list_folder(folder)
  except OSError as error:
    raise UserError(f"{what}={folder} cannot be listed: {error}; check its permissions") from error
  if not entries and not skipped:
    raise UserError(f"{what}={folder} holds no files; give a folder of videos, frames or arrays")
  # The first files by name may all belong to one class.
  order = list(range(len(entries)))
  if options.max_clips:
    logging.info("%s=%s: drawing files from %d at random, seed %d", what, folder, len(entries), options.seed)
    order = np.random.default_rng(options.seed).permutation(order).tolist()
  else:
    logging.info("%s=%s: opening %d files", what, folder, len(entries))
  scratch, num_clips = Scratch(), 0
  found: dict[int, list[Clip]] = {}
  results = ordered_map(lambda i: _open_entry(entries[i], options, scratch, what), order, ahead=4 * NUM_THREADS)
  with contextlib.closing(results):
    for index, opened in zip(order, results, strict=False):
      if isinstance(opened, Exception):
        skipped.append((entries[index].name, str(opened)))
      found[index] = [] if isinstance(opened, Exception) else opened
      num_clips += len(found[index])
      if options.max_clips and num_clips >= options.max_clips:
        break
  clips = [clip for index in sorted(found) for clip in found[index]]
  # Files beyond `max_clips` count for the classes, so that a label does not depend on the number of clips.
  class_names = class_folders([entry.name for index, entry in enumerate(entries) if found.get(index, True)])
  labels = [class_names.index(clip.name.split("/")[0]) for clip in clips] if class_names else None
  return ClipSet(
    str(folder), clips, options, labels=labels, class_names=class_names, skipped=skipped, scratch=scratch, what=what
  )


def _open_entry(entry: Entry, options: ClipOptions, scratch: Scratch, what: str) -> list[Clip] | Exception:
  try:
    if entry.frames:
      return [open_frames(entry.frames, entry.name, options)]
    if entry.path.suffix.lower() in (".npy", ".npz"):
      return open_array_file(entry.path, entry.name, options, scratch=scratch, what=what)
    return [open_video(entry.path, entry.name, options)]
  except (UnreadableVideoError, OSError) as error:
    return error


def _find_dataset(path: str, *, what: str, data_dir: str | Path) -> tuple[records.DatasetInfo, str]:
  """The description of a data set NAME/SPLIT, and its split."""
  match = re.fullmatch(r"([\w-]+)(?:/([^/]+))?/*", path)
  if match is None or not (records.dataset_directory(match[1], data_dir) / records.MANIFEST).is_file():
    name, names = path.partition("/")[0], records.built_names(data_dir)
    close = "" if name in names else records.did_you_mean(name, names)
    raise UserError(
      f"{what}={path} is neither a file or folder nor a data set NAME/SPLIT prepared in "
      f"{Path(data_dir).expanduser()}{close}; see `vidgen data list`"
    )
  info, split = records.load_info(match[1], data_dir), match[2] or "test"
  if split not in info.num_clips:
    known = ", ".join(f"{what}={info.name}/{known}" for known in sorted(info.num_clips))
    raise UserError(f"{what}={path}: data set {info.name} has no split {split!r}; give one of {known}")
  return info, split


def _open_dataset(path: str, options: ClipOptions, *, what: str, data_dir: str | Path) -> ClipSet:
  info, split = _find_dataset(path, what=what, data_dir=data_dir)
  source = records.open_split(info, split)

  def read(index: int, wanted: range) -> np.ndarray:
    frames = source[index]["frames"]
    return frame_images((decode_frame(frames[i], channels=3) for i in wanted), options)

  size, encoding = options.resolution or None, info.encoding
  fps = info.fps[0] if len(info.fps) == 1 else 0.0
  clips, labels, skipped = [], [], []
  for index, length in enumerate(info.num_frames[split]):
    name = f"{info.name}/{split}[{index}]"
    try:
      wanted = options.wanted(int(length), name)
    except UnreadableVideoError as error:
      skipped.append((name, str(error)))
      continue
    reader = functools.partial(read, index, wanted)
    clips.append(Clip(name, (len(wanted), size, size), reader, encoding=encoding, fps=fps))
    labels.append(info.labels[split][index])
  return ClipSet(
    f"{info.name}/{split}", clips, options, labels=labels, class_names=info.class_names, skipped=skipped, what=what
  )
