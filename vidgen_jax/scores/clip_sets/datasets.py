"""Clips of a prepared data set."""

from pathlib import Path

import numpy as np

from vidgen_jax.data import frames as frames_lib
from vidgen_jax.data import records
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.framing import frame_images, framed_size
from vidgen_jax.scores.clip_sets.options import ClipOptions
from vidgen_jax.scores.clip_sets.readers import ClipShape, too_short


class DatasetReader:
  """The clips of one split that are long enough, in the order of the records.

  Args:
    info: the data set.
    split: the split.
    options: the window that is wanted.
    what: the flag that names the set, for messages.

  Raises:
    UserError: if there is no such split, or whole clips are wanted and their lengths differ.
  """

  is_float = False

  def __init__(self, info: records.DatasetInfo, split: str, options: ClipOptions, *, what: str):
    self._records = records.open_split(info, split)
    self._name, self._options = f"{info.name}/{split}", options
    lengths = info.num_frames[split]
    self.indices = np.flatnonzero(lengths >= options.needed_frames)
    if options.max_clips:
      self.indices = self.indices[: options.max_clips]
    self.skipped = tuple(
      (f"{self._name}[{index}]", str(too_short(int(lengths[index]), options.needed_frames)))
      for index in np.flatnonzero(lengths < options.needed_frames)
    )
    used = lengths[self.indices]
    if not options.num_frames and len(set(used.tolist())) > 1:
      other = int(np.argmax(used != used[0]))
      raise UserError(
        f"{what}={self._name} mixes lengths: {self.name(0)} has {used[0]} frames, {self.name(other)} has "
        f"{used[other]}; cut them with --num_frames=N"
      )
    self._lengths = used
    num_frames = len(options.wanted(int(used[0]))) if len(used) else 0
    size = framed_size(0, 0, options)
    self.shape = ClipShape(num_frames, *size) if options.resolution else ClipShape(num_frames, None, None)

  def __len__(self) -> int:
    return len(self.indices)

  def name(self, index: int) -> str:
    """The data set, the split and the place of the record."""
    return f"{self._name}[{self.indices[index]}]"

  def read(self, index: int) -> np.ndarray:
    """uint8[T, H, W, C]; only the frames of the window are decoded."""
    frames = self._records[int(self.indices[index])]["frames"]
    channels = self._options.channels
    wanted = self._options.wanted(int(self._lengths[index]))
    return frame_images((frames_lib.decode_frame(frames[i], channels=channels) for i in wanted), self._options)


def find_dataset(path: str, *, data_dir: str | Path, what: str) -> tuple[records.DatasetInfo, str]:
  """The data set and split that `NAME/SPLIT` means, or `NAME`: its split 'test'.

  Args:
    path: what the user gave, which is neither a file nor a folder.
    data_dir: folder of the data sets.
    what: the flag, for messages.

  Raises:
    UserError: if there is no such data set or split, or it is damaged.
  """
  name, _, split = path.rstrip("/").partition("/")
  if not name.replace("_", "").replace("-", "").isalnum() or "/" in split or not _is_built(name, data_dir):
    raise UserError(
      f"{what}={path} is neither a file or folder nor a data set NAME/SPLIT prepared in {Path(data_dir).expanduser()}"
    )
  info = records.load_info(name, data_dir)
  split = split or "test"
  if split not in info.num_clips:
    known = ", ".join(f"{what}={name}/{known}" for known in sorted(info.num_clips))
    raise UserError(f"{what}={path}: data set {name} has no split {split!r}; give one of {known}")
  return info, split


def _is_built(name: str, data_dir: str | Path) -> bool:
  return (records.dataset_directory(name, data_dir) / records.MANIFEST).is_file()
