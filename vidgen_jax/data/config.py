"""Configuration of a data set and of the windows that are cut from its clips."""

import dataclasses
from typing import Literal

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
    resolution: height and width of a window in pixels; frames are resized to this smallest side, then cropped.
    data_dir: folder of built data sets; `~` is expanded.
    train_split: split for training.
    eval_split: split for evaluation.
    eval_window: temporal position of evaluation windows: 'centre' of the clip, or 'random' with a fixed seed, equal
      in every evaluation.
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
  data_dir: str = DEFAULT_DATA_DIR
  train_split: str = "train"
  eval_split: str = "test"
  eval_window: Literal["centre", "random"] = "centre"
  channels: int = 3
  frame_stride: int = 1
  random_flip: bool = False
  num_threads: int = 2
  prefetch: int = 2
  workers: int = 0
  device_prefetch: int = 1

  def __post_init__(self):
    counts = ("num_frames", "resolution", "frame_stride", "num_threads", "prefetch", "device_prefetch", "workers")
    for field in counts:
      bound = 0 if field == "workers" else 1
      if getattr(self, field) < bound:
        raise UserError(f"data.{field} must be at least {bound}, got {getattr(self, field)}")
    buckets.local_path(self.data_dir, "data.data_dir")
    if self.eval_window not in ("centre", "random"):
      raise UserError(f"data.eval_window must be centre or random, got {self.eval_window!r}")
    if self.channels not in (1, 3):
      raise UserError(f"data.channels must be 1 (luma) or 3 (RGB), got {self.channels}")

  @property
  def clip_length(self) -> int:
    """Frames that a window spans in its clip: (T - 1) stride + 1."""
    return (self.num_frames - 1) * self.frame_stride + 1
