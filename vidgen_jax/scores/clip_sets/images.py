"""Clips in video files, frame strips, and folders of single frames."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vidgen_jax.data.decode import (
  DAMAGED_IMAGE_ERRORS,
  IMAGE_FORMATS,
  UnreadableVideoError,
  VideoSize,
  iterate_frames,
  measure_video,
  to_rgb,
)
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.framing import frame_images, framed_size
from vidgen_jax.scores.clip_sets.options import ClipOptions
from vidgen_jax.scores.clip_sets.readers import ClipShape, UnusableFileError, too_short

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"))

_MIN_STRIP_FRAMES = 3
"""An image twice as wide as high may be a single frame; one three times as wide is a strip."""


class VideoReader:
  """The one clip of a video file or a frame strip.

  Opening decodes the frames that are needed once, without converting them. So damage is known before anything is
  computed, and so is the length, about which containers may be silent or wrong.

  Args:
    path: the file.
    name: what messages call it.
    options: the window that is wanted.
    what: the flag that names the set, for messages.

  Raises:
    UnusableFileError: if it cannot be read, is a single image, or is too short.
  """

  is_float = False

  def __init__(self, path: Path, name: str, options: ClipOptions, *, what: str):
    try:
      with path.open("rb") as file:
        size = measure_video(file, stop=options.stop)
    except (UnreadableVideoError, OSError) as error:
      raise UnusableFileError(str(error)) from error
    if size.num_frames == 1 and path.suffix.lower() in IMAGE_SUFFIXES:
      raise UnusableFileError("a single image, neither a strip nor one of the numbered frames of a clip")
    if size.num_frames < options.needed_frames:
      raise too_short(size.num_frames, options.needed_frames)
    self._path, self._name, self._options, self._what = path, name, options, what
    self._wanted = options.wanted(size.num_frames)
    self.shape = _shape(self._wanted, size, options)

  def __len__(self) -> int:
    return 1

  def name(self, index: int) -> str:
    """The file."""
    del index
    return self._name

  def read(self, index: int) -> np.ndarray:
    """uint8[T, H, W, C]; decoding ends with the window."""
    del index
    try:
      with self._path.open("rb") as file:
        return _complete(frame_images(iterate_frames(file, wanted=self._wanted), self._options), self._wanted)
    except (UnreadableVideoError, OSError, ValueError) as error:
      raise _changed(self._what, self._name, error) from error


class FramesReader:
  """The one clip of a folder that holds each frame as an image.

  Args:
    files: the frames, in their order.
    name: of the folder.
    options: the window that is wanted.
    what: the flag that names the set, for messages.

  Raises:
    UnusableFileError: if the clip is too short, a frame of the window is damaged, or their sizes differ.
  """

  is_float = False

  def __init__(self, files: Sequence[Path], name: str, options: ClipOptions, *, what: str):
    if len(files) < options.needed_frames:
      raise too_short(len(files), options.needed_frames)
    self._wanted = options.wanted(len(files))
    self._files = [files[index] for index in self._wanted]
    self._name, self._options, self._what = name, options, what
    sizes = []
    for file in self._files:
      try:
        sizes.append(_open_frame(file).size)
      except (UnreadableVideoError, OSError) as error:
        raise UnusableFileError(f"frame {file.name}: {error}") from error
      if sizes[-1] != sizes[0]:
        raise UnusableFileError(f"the size changes from {sizes[0]} to {sizes[-1]} at frame {file.name}")
    width, height = sizes[0]
    self.shape = _shape(self._wanted, VideoSize(len(files), height, width), options)

  def __len__(self) -> int:
    return 1

  def name(self, index: int) -> str:
    """The folder."""
    del index
    return self._name

  def read(self, index: int) -> np.ndarray:
    """uint8[T, H, W, C]."""
    del index
    try:
      return frame_images(map(_open_frame, self._files), self._options)
    except (UnreadableVideoError, OSError, ValueError) as error:
      raise _changed(self._what, self._name, error) from error


class FrameSeries(NamedTuple):
  """What the images of one folder are."""

  frames: list[Path]
  """The single frames of one clip, in their order; empty if there is none."""
  others: list[Path]
  """What stands for itself: strips, and what cannot be read."""
  problem: str
  """Why images that look like single frames are no clip; '' if they are one, or there are none."""


def frame_series(files: Sequence[Path]) -> FrameSeries:
  """Tells single frames of a clip from strips, by the shape of one image and by their names.

  Frames are numbered: their names differ in one number only, in whose order they come.

  Args:
    files: the images of one folder.
  """
  numbered = [file for file in files if re.search(r"\d", file.stem)]
  others = [file for file in files if file not in set(numbered)]
  if len(numbered) < 2 or _holds_strips(numbered):
    return FrameSeries([], list(files), "")
  patterns = {re.sub(r"\d+", "#", file.name) for file in numbered}
  if len(patterns) > 1:
    first, second = sorted(patterns)[:2]
    return FrameSeries([], others, f"images named {first} and {second}; give each clip a folder of its own")
  numbers = np.array([[int(number) for number in re.findall(r"\d+", file.name)] for file in numbered], dtype=object)
  varying = [column for column in numbers.T if len(set(column)) > 1]
  if len(varying) != 1 or len(set(varying[0])) != len(numbered):
    pattern = patterns.pop()
    return FrameSeries([], others, f"images named {pattern} do not differ in just one number; number its frames")
  order = sorted(varying[0])
  steps = {after - before for before, after in itertools.pairwise(order)}
  if len(steps) > 1:
    gap = next(before for before, after in itertools.pairwise(order) if after - before != min(steps))
    return FrameSeries([], others, f"the frame after number {gap} is missing")
  ordered = [file for _, file in sorted(zip(varying[0], numbered, strict=True))]
  return FrameSeries(ordered, others, "")


def _holds_strips(files: Sequence[Path]) -> bool:
  """Whether the first image that can be opened is a strip; if none can, they are not single frames either."""
  for file in files:
    try:
      with Image.open(file, formats=IMAGE_FORMATS) as image:
        side, length = sorted(image.size)
    except DAMAGED_IMAGE_ERRORS:
      continue
    return length % side == 0 and length // side >= _MIN_STRIP_FRAMES
  return True


def _open_frame(file: Path) -> Image.Image:
  try:
    with Image.open(file, formats=IMAGE_FORMATS) as image:
      return to_rgb(image)
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {' '.join(str(error).split())}") from error


def _shape(wanted: range, size: VideoSize, options: ClipOptions) -> ClipShape:
  return ClipShape(len(wanted), *framed_size(size.height, size.width, options))


def _complete(video: np.ndarray, wanted: range) -> np.ndarray:
  if len(video) != len(wanted):
    raise UnreadableVideoError(f"{len(video)} of {len(wanted)} frames are left")
  return video


def _changed(what: str, name: str, error: Exception) -> UserError:
  return UserError(f"{what}: {name} changed while it was being read: {error}; start again")
