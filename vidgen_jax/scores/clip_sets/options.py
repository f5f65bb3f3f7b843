"""Which part of each clip is wanted, and in which form."""

import dataclasses
from typing import Literal

from vidgen_jax.errors import UserError

VALUE_RANGES = ("auto", "255", "1", "-1..1")
"""What 0 and full brightness are in arrays of floats: 0..255, 0..1, -1..1, or whichever of them the values say."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipOptions:
  """The window that is cut from every clip, in time and in space.

  Attributes:
    num_frames: T; 0 for all frames of every clip, which must then be equally long.
    frame_stride: distance between the frames of a window, in frames of the clip.
    window: where in the clip the window lies: its first frames, or its middle.
    resolution: H = W in pixels: the smallest side is resized to it and the middle square is cut out, as the data
      pipeline does; 0 keeps the size, which all clips must then have in common.
    channels: 3 for RGB (grey is repeated), 1 for luma.
    value_range: of arrays of floats, one of `VALUE_RANGES`. Integers are 0..255 always.
    max_clips: at most so many; of a folder those of files that are drawn, always the same, else the first; 0 for all.
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
    """Frames that a clip must have: (T - 1) stride + 1, or 1 where all of it is wanted."""
    return (self.num_frames - 1) * self.frame_stride + 1 if self.num_frames else 1

  @property
  def stop(self) -> int | None:
    """How many first frames of a clip are enough to cut its window; None where its whole length must be known."""
    return self.needed_frames if self.num_frames and self.window == "start" else None

  def wanted(self, length: int) -> range:
    """The frames of the window of a clip.

    Args:
      length: number of frames of the clip, at least `needed_frames`.
    """
    if not self.num_frames:
      return range(0, length, self.frame_stride)
    start = (length - self.needed_frames) // 2 if self.window == "centre" else 0
    return range(start, start + self.needed_frames, self.frame_stride)
