"""What every kind of clip has in common before its values are checked."""

from typing import NamedTuple, Protocol

import numpy as np


class ClipShape(NamedTuple):
  """Of the window that is read, after resizing. Height and width are None where they are known only when read."""

  num_frames: int
  height: int | None
  width: int | None


class Reader(Protocol):
  """Some clips of one shape: those of one file, one folder of frames, or one data set. Read by several threads.

  Attributes:
    shape: of the windows.
    is_float: whether the values are floats, whose range must be found out.
  """

  shape: ClipShape
  is_float: bool

  def __len__(self) -> int: ...

  def name(self, index: int) -> str:
    """Says which clip it is, in messages and reports."""
    ...

  def read(self, index: int) -> np.ndarray:
    """The window of one clip: any number type [T, h, w, c], in the values and of the size that it is stored in.

    Raises:
      UserError: if it cannot be read.
    """
    ...


class UnusableFileError(Exception):
  """A file that holds no clip as it should be; the message says why and goes into the list of skipped files."""


def too_short(length: int, needed: int) -> UnusableFileError:
  """The error of a clip that has fewer frames than the window needs."""
  frames = "frame" if length == 1 else "frames"
  return UnusableFileError(f"{length} {frames}, {needed} are needed; lower --num_frames")
