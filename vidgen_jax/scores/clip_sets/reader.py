"""What all origins of clips have in common before their values are checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vidgen_jax.scores.clip_sets.options import ClipOptions


class ClipShape(NamedTuple):
  """Shape of a window after resizing; height and width are None if they are unknown before reading."""

  num_frames: int
  height: int | None
  width: int | None


@dataclass(frozen=True, kw_only=True)
class Reader:
  """Clips of one shape from one file, one folder of frames or one data set.

  Attributes:
    names: name of each clip in messages and reports.
    shape: shape of the windows.
    read: returns the window of the i-th clip, [T, h, w, c] with any number type, in the stored values and any size.
      Several threads call it.
    read_errors: exceptions of `read` for a file that has changed since it was opened.
    is_float: whether the values are floats, whose range is unknown.
    layout: axes and dtype of an array, such as 'T, H, W, C of uint8'; empty for other files.
    is_samples: whether the clips are samples of `vidgen sample`.
  """

  names: Sequence[str]
  shape: ClipShape
  read: Callable[[int], np.ndarray]
  read_errors: tuple[type[Exception], ...] = ()
  is_float: bool = False
  layout: str = ""
  is_samples: bool = False


class UnusableFileError(Exception):
  """A file holds no usable clip; the message is the reason in the list of skipped files."""


def window_of(length: int, options: ClipOptions) -> range:
  """Indices of the window's frames in a clip of `length` frames.

  Raises:
    UnusableFileError: if the clip is too short.
  """
  if length < options.needed_frames:
    raise UnusableFileError(too_short(length, options))
  return options.wanted(length)


def too_short(length: int, options: ClipOptions) -> str:
  """The reason why a clip of `length` frames is not usable."""
  return f"{length} frame{'' if length == 1 else 's'}, {options.needed_frames} are needed; lower --num_frames"
