"""Options that say which part of each clip is read, and in which form."""

import dataclasses
from typing import Literal

from vidgen_jax.errors import UserError

VALUE_RANGES = ("auto", "255", "1", "-1..1")
"""Ranges of float arrays: 0..255, 0..1, -1..1, or 'auto' to infer the range from the values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipOptions:
  """The window that is cut from every clip, in time and in space.

  Attributes:
    num_frames: T; 0 for all frames of every clip, which must then have equal length.
    frame_stride: distance between the frames of a window, in frames of the clip.
    window: position of the window in the clip: its first frames, or its middle.
    resolution: H = W in pixels: the smallest side is resized to it and the middle square is cropped, as in the data
      pipeline; 0 keeps the size, which must be equal for all clips.
    channels: 3 for RGB (grey is repeated), 1 for luma.
    value_range: range of float arrays, one of `VALUE_RANGES`. The range of integers is always 0..255.
    max_clips: largest number of clips; 0 for all. Files of a folder are drawn at random with a fixed seed, other clips
      are the first ones.
  """

  num_frames: int = 0
  frame_stride: int = 1
  window: Literal["start", "centre"] = "start"
  resolution: int = 0
  channels: int = 3
  value_range: Literal["auto", "255", "1", "-1..1"] = "auto"
  max_clips: int = 0

  def __post_init__(self):
    for field, least in {"num_frames": 0, "frame_stride": 1, "resolution": 0, "max_clips": 0}.items():
      value = getattr(self, field)
      if value < least:
        raise UserError(f"{field} must be {least} or more, got {value}")
    if self.window not in ("start", "centre"):
      raise UserError(f"window must be start or centre, got {self.window!r}")
    if self.channels not in (1, 3):
      raise UserError(f"channels must be 1 (luma) or 3 (RGB), got {self.channels}")
    if self.value_range not in VALUE_RANGES:
      raise UserError(f"value_range must be one of {', '.join(VALUE_RANGES)}, got {self.value_range!r}")

  @property
  def needed_frames(self) -> int:
    """Number of frames that a clip must have: (T - 1) stride + 1, or 1 if all frames are read."""
    return (self.num_frames - 1) * self.frame_stride + 1 if self.num_frames else 1

  @property
  def stop(self) -> int | None:
    """Number of first frames that contain the window; None if its position depends on the clip's length."""
    return self.needed_frames if self.num_frames and self.window == "start" else None

  def wanted(self, length: int) -> range:
    """Indices of the window's frames in a clip of `length` frames, which is at least `needed_frames`."""
    if not self.num_frames:
      return range(0, length, self.frame_stride)
    start = (length - self.needed_frames) // 2 if self.window == "centre" else 0
    return range(start, start + self.needed_frames, self.frame_stride)

  def frame_size(self, height: int, width: int) -> tuple[int, int]:
    """Height and width of the result for frames of this size."""
    return (self.resolution, self.resolution) if self.resolution else (height, width)
