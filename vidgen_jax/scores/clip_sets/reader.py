"""The part of each clip that is read, and the record that clips of all origins share."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from vidgen_jax.data.decode import UnreadableVideoError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipOptions:
  """The window that is cut from every clip, in time and in space.

  Attributes:
    num_frames: T; 0 for all frames of every clip, which must then have equal length.
    frame_stride: distance between the frames of a window, in frames of the clip.
    window: position of the window in the clip: its first frames, or its middle.
    resolution: H = W in pixels: the smallest side is resized to it and the middle square is cropped, as in the data
      pipeline; 0 keeps the size, which must be equal for all clips.
    value_range: range of float arrays; 'auto' infers it from the values. The range of integers is always 0..255.
    max_clips: largest number of clips; 0 for all. Files of a folder are drawn at random with a fixed seed, other clips
      are the first ones.
  """

  num_frames: int = 0
  frame_stride: int = 1
  window: Literal["start", "centre"] = "start"
  resolution: int = 0
  value_range: Literal["auto", "255", "1", "-1..1"] = "auto"
  max_clips: int = 0

  @property
  def needed_frames(self) -> int:
    """Number of frames that a clip must have: (T - 1) stride + 1, or 1 if all frames are read."""
    return (self.num_frames - 1) * self.frame_stride + 1 if self.num_frames else 1

  @property
  def stop(self) -> int | None:
    """Number of first frames that contain the window; None if its position depends on the clip's length."""
    return self.needed_frames if self.num_frames and self.window == "start" else None

  def wanted(self, length: int) -> range:
    """Indices of the window's frames in a clip of `length` frames; UnreadableVideoError if the clip is too short."""
    if length < self.needed_frames:
      frames = "1 frame" if length == 1 else f"{length} frames"
      raise UnreadableVideoError(f"{frames}, {self.needed_frames} are needed; lower --num_frames")
    if not self.num_frames:
      return range(0, length, self.frame_stride)
    start = (length - self.needed_frames) // 2 if self.window == "centre" else 0
    return range(start, start + self.needed_frames, self.frame_stride)

  def frame_size(self, height: int, width: int) -> tuple[int, int]:
    """Height and width of the result for frames of this size."""
    return (self.resolution, self.resolution) if self.resolution else (height, width)


class Clip(NamedTuple):
  """A clip in a file, a folder of frames or a data set.

  Attributes:
    name: name in messages and reports.
    shape: (T, H, W) of the window after resizing; H and W are None if they are unknown before reading.
    read: returns the window, [T, h, w, C] with any number type, in the stored values and any size. Several threads call
      it. It raises UnreadableVideoError, OSError or ValueError if the file has changed since it was opened.
    is_float: whether the values are floats, whose range is unknown.
    layout: axes and dtype of an array, such as 'T, H, W, C of uint8'; empty for other files.
  """

  name: str
  shape: tuple[int, int | None, int | None]
  read: Callable[[], np.ndarray]
  is_float: bool = False
  layout: str = ""
