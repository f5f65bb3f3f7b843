"""What the pipeline needs to know: which data set, and which part of each clip."""

import dataclasses
from typing import Literal

from vidgen_jax import buckets
from vidgen_jax.errors import UserError

DEFAULT_DATA_DIR = "~/.cache/vidgen_jax/data"
"""Where built data sets live unless a flag or the config says otherwise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """A data set and the windows that are cut from its clips.

  Attributes:
    name: name of a built data set, as given to `vidgen data build`.
    num_frames: T, frames of a window.
    resolution: H = W of a window, in pixels; the smallest side is resized to it, then a square is cut out.
    data_dir: folder that holds the built data sets; `~` is expanded.
    train_split: split that `train_batches` reads.
    eval_split: split that `eval_batches` reads.
    eval_window: where `eval_batches` cuts its windows in time: 'centre', or 'random': drawn once and for all, the same
      at every evaluation.
    channels: 3 for RGB, 1 for luma.
    frame_stride: distance between the frames of a window, in frames of the clip.
    random_flip: mirrors half of the training windows left to right.
    num_threads: threads that read and decode, per process and per worker.
    prefetch: batches in host memory that reading may be ahead; at least one per worker and another in its queue.
    workers: extra reading processes; 0 reads in this process, with `num_threads` threads. The batches are the same.
    device_prefetch: batches on the devices that transfers may be ahead of the training step.
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
    for field in ("num_frames", "resolution", "frame_stride", "num_threads", "prefetch", "device_prefetch"):
      value = getattr(self, field)
      if value < 1:
        raise UserError(f"data.{field} must be at least 1, got {value}")
    buckets.local_path(self.data_dir, "data.data_dir")
    if self.workers < 0:
      raise UserError(f"data.workers must be 0 or more, got {self.workers}")
    if self.eval_window not in ("centre", "random"):
      raise UserError(f"data.eval_window must be centre or random, got {self.eval_window!r}")
    if self.channels not in (1, 3):
      raise UserError(f"data.channels must be 1 (luma) or 3 (RGB), got {self.channels}")

  @property
  def clip_length(self) -> int:
    """Frames that a clip must have so that a window fits: (T - 1) stride + 1."""
    return (self.num_frames - 1) * self.frame_stride + 1
