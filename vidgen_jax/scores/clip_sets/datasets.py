"""Clips of a prepared data set."""

from pathlib import Path

import numpy as np
from absl import logging

from vidgen_jax.data import records
from vidgen_jax.data.frames import decode_frame
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.clip_set import ClipSet
from vidgen_jax.scores.clip_sets.framing import frame_images
from vidgen_jax.scores.clip_sets.options import ClipOptions
from vidgen_jax.scores.clip_sets.reader import ClipShape, Reader, too_short


def open_dataset(path: str, options: ClipOptions, *, what: str, data_dir: str | Path) -> ClipSet:
  """Opens the clips of one split that are long enough, in the order of the records.

  Args:
    path: NAME/SPLIT, or NAME for its split 'test'.
    options: requested window.
    what: flag that names the set, for messages.
    data_dir: folder of the data sets.

  Raises:
    UserError: if there is no such data set, split or usable clip, or whole clips are requested and their lengths
      differ.
  """
  info, split = _find_dataset(path, data_dir=data_dir, what=what)
  name, lengths, clips = f"{info.name}/{split}", info.num_frames[split], records.open_split(info, split)
  skipped = [
    (f"{name}[{index}]", too_short(int(lengths[index]), options))
    for index in np.flatnonzero(lengths < options.needed_frames)
  ]
  if skipped:
    logging.warning("%s=%s: skipped %d, the first %s: %s", what, name, len(skipped), *skipped[0])
  indices = np.flatnonzero(lengths >= options.needed_frames)[: options.max_clips or None]
  if not len(indices):
    raise UserError(f"{what}={name} holds no usable clip: the first {': '.join(skipped[0])}")
  lengths, names = lengths[indices], [f"{name}[{index}]" for index in indices]
  if not options.num_frames and (lengths != lengths[0]).any():
    other = int(np.argmax(lengths != lengths[0]))
    raise UserError(
      f"{what}={name} mixes lengths: {names[0]} has {lengths[0]} frames, {names[other]} has {lengths[other]}; "
      "cut them with --num_frames=N"
    )

  def read(index: int) -> np.ndarray:
    frames = clips[int(indices[index])]["frames"]
    wanted = options.wanted(int(lengths[index]))
    return frame_images((decode_frame(frames[i], channels=options.channels) for i in wanted), options)

  size = options.resolution or None
  reader = Reader(names=names, shape=ClipShape(len(options.wanted(int(lengths[0]))), size, size), read=read)
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
