"""Configuration of a data set and of the windows that are cut from its clips."""

import dataclasses
import typing
from typing import Any, Literal

from vidgen_jax import buckets
from vidgen_jax.errors import UserError

DEFAULT_DATA_DIR = "~/.cache/vidgen_jax/data"
"""Folder of built data sets unless a flag or the config names another one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """A data set and the windows that are cut from its clips.

  Attributes:
    name: name of the data set, as built by `vidgen data build`.
    num_frames: number of frames T of a window.
    resolution: height and width of a window in pixels.
    resize: how frames are resized before a square of `resolution` is cropped out of them: 'smallest_side' keeps the
      aspect ratio and gives the smallest side `resize_to` pixels, 'squash' gives `resize_to` x `resize_to` pixels, and
      'none' crops without resizing.
    resize_to: side in pixels after resizing; 0 for `resolution`.
    train_crop: position of the square in training windows and standing statistics: 'random', or 'centre' as always in
      evaluation.
    data_dir: folder of built data sets; `~` is expanded.
    train_split: split for training.
    eval_window: temporal position of evaluation windows: 'centre' or 'start' of the clip, 'random' with a fixed seed,
      equal in every evaluation, or 'all' for every window of every clip, in an order that a fixed seed shuffles, so
      that a limited number of clips is a random choice of windows.
    eval_window_stride: distance between the windows of a clip for 'all', in frames.
    channels: number of channels: 3 for RGB, 1 for luma.
    frame_stride: distance between successive frames of a window, in frames of the clip.
    random_flip: whether half of the training windows are mirrored left to right.
    num_threads: number of threads that read and decode clips, per process and per worker.
    prefetch: number of batches read ahead into host memory; with workers, at least two per worker.
    workers: number of additional reading processes; 0 reads in the training process. Does not change the batches.
    device_prefetch: number of batches transferred to the devices ahead of the train step.
  """

  name: str
  num_frames: int
  resolution: int
  resize: Literal["smallest_side", "squash", "none"] = "smallest_side"
  resize_to: int = 0
  train_crop: Literal["random", "centre"] = "random"
  data_dir: str = DEFAULT_DATA_DIR
  train_split: str = "train"
  eval_window: Literal["centre", "start", "random", "all"] = "centre"
  eval_window_stride: int = 1
  channels: int = 3
  frame_stride: int = 1
  random_flip: bool = False
  num_threads: int = 2
  prefetch: int = 2
  workers: int = 0
  device_prefetch: int = 1

  def __post_init__(self):
    counts = ("num_frames", "resolution", "frame_stride", "num_threads", "prefetch", "device_prefetch", "workers")
    for field in (*counts, "resize_to", "eval_window_stride"):
      bound = 0 if field in ("workers", "resize_to") else 1
      if getattr(self, field) < bound:
        raise UserError(f"data.{field} must be at least {bound}, got {getattr(self, field)}")
    for field in ("resize", "train_crop", "eval_window"):
      if (value := getattr(self, field)) not in (known := typing.get_args(DataConfig.__annotations__[field])):
        raise UserError(f"data.{field} must be one of {', '.join(known)}, got {value!r}")
    if self.resize_to and (self.resize == "none" or self.resize_to < self.resolution):
      raise UserError(
        f"data.resize_to={self.resize_to} needs data.resize=smallest_side or squash, and must be at least "
        f"data.resolution={self.resolution}; got data.resize={self.resize}"
      )
    if self.eval_window_stride > 1 and self.eval_window != "all":
      raise UserError(
        f"data.eval_window_stride={self.eval_window_stride} needs data.eval_window=all, got {self.eval_window}"
      )
    buckets.local_path(self.data_dir, "data.data_dir")
    if self.channels not in (1, 3):
      raise UserError(f"data.channels must be 1 (luma) or 3 (RGB), got {self.channels}")

  @property
  def clip_length(self) -> int:
    """Frames that a window spans in its clip: (T - 1) stride + 1."""
    return (self.num_frames - 1) * self.frame_stride + 1

  @property
  def square(self) -> dict[str, Any]:
    """Arguments of `transforms.cut_square` and `decode_squares`: 'resolution', 'mode' and 'resize_to'."""
    return {"resolution": self.resolution, "mode": self.resize, "resize_to": self.resize_to}

  @property
  def framing(self) -> str:
    """How evaluation windows are cut from frames, for reports: 'squashed to 127x127, centre crop'."""
    side = self.resize_to or self.resolution
    resized = {"smallest_side": f"smallest side {side}", "squash": f"squashed to {side}x{side}", "none": "not resized"}
    return f"{resized[self.resize]}, centre crop"
