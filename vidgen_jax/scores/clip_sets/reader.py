"""The part of each clip that is read, and the record that clips of all origins share."""

import dataclasses
import zlib
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
    window: position of the window in the clip: its first frames, its middle, or drawn for each clip from `seed` and the
      name of the clip alone, so that processes, batches and other clips change nothing.
    resolution: H = W in pixels: the smallest side is resized to it and the middle square is cropped, as in the data
      pipeline; 0 keeps the size, which must be equal for all clips.
    value_range: range of float arrays; 'auto' infers it from the values. The range of integers is always 0..255.
    max_clips: largest number of clips, drawn at random with `seed`; 0 for all. Of a folder, files are drawn.
    seed: seed of random windows and of the drawn clips.
  """

  num_frames: int = 0
  frame_stride: int = 1
  window: Literal["start", "centre", "random"] = "start"
  resolution: int = 0
  value_range: Literal["auto", "255", "1", "-1..1"] = "auto"
  max_clips: int = 0
  seed: int = 0

  @property
  def needed_frames(self) -> int:
    """Number of frames that a clip must have: (T - 1) stride + 1, or 1 if all frames are read."""
    return (self.num_frames - 1) * self.frame_stride + 1 if self.num_frames else 1

  @property
  def stop(self) -> int | None:
    """Number of first frames that contain the window; None if its position depends on the clip's length."""
    return self.needed_frames if self.num_frames and self.window == "start" else None

  @property
  def text(self) -> str:
    """The window in words, for scores, such as 'random, seed 0, stride 2'."""
    parts = ["all frames" if not self.num_frames else self.window]
    parts += [f"seed {self.seed}"] if self.num_frames and self.window == "random" else []
    parts += [f"stride {self.frame_stride}"] if self.frame_stride > 1 else []
    return ", ".join([*parts, f"short side {self.resolution}, centre square"] if self.resolution else parts)

  def wanted(self, length: int, name: str) -> range:
    """Indices of the window's frames in the clip `name` of `length` frames; UnreadableVideoError if it is too short."""
    if length < self.needed_frames:
      frames = "1 frame" if length == 1 else f"{length} frames"
      raise UnreadableVideoError(f"{frames}, {self.needed_frames} are needed; lower --num_frames")
    if not self.num_frames:
      return range(0, length, self.frame_stride)
    spare, start = length - self.needed_frames, 0
    if self.window == "centre":
      start = spare // 2
    elif self.window == "random":
      start = int(np.random.default_rng([self.seed, zlib.crc32(name.encode())]).integers(spare + 1))
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
    encoding: how the frames are stored, such as 'h264', 'png frames' or 'uint8 array'.
    fps: frames per second of the file; 0 if it is unknown.
  """

  name: str
  shape: tuple[int, int | None, int | None]
  read: Callable[[], np.ndarray]
  is_float: bool = False
  layout: str = ""
  encoding: str = ""
  fps: float = 0.0
