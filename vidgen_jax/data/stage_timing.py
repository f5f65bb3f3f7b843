"""Where the time of a window goes, and what a window costs against all frames of its clip; by one thread."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from vidgen_jax.data import frames as frames_lib
from vidgen_jax.data import records, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.records import ClipSource, open_clips
from vidgen_jax.data.records import parse_clip

STAGES = ("read", "parse", "decode", "resize and crop", "batch", "transfer")
"""Reading a record, finding its frames, decoding a window of them, cutting squares, stacking clips, to the device."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageTiming:
  """Seconds of a window, by stage.

  Attributes:
    seconds: mean seconds of each of `STAGES` for one clip's window.
    record_bytes: mean size of the record that is read for a window.
    window_bytes: mean size of the window's own encoded frames.
  """

  seconds: dict[str, float]
  record_bytes: float
  window_bytes: float

  @property
  def shares(self) -> dict[str, float]:
    """Of each stage in the whole, in 0..1."""
    whole = sum(self.seconds.values())
    return {stage: seconds / whole for stage, seconds in self.seconds.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowCost:
  """What a window of T frames costs.

  Attributes:
    window: median seconds of reading and decoding a window.
    whole: median seconds of reading and decoding all frames of the same clips.
    num_frames: mean frames of these clips.
  """

  window: float
  whole: float
  num_frames: float

  @property
  def ratio(self) -> float:
    """Window to whole clip."""
    return self.window / self.whole


def stored_bytes_per_clip(config: DataConfig) -> float:
  """Size of the training split's files, divided by its clips.

  Raises:
    UserError: if the data set is missing.
  """
  info = records.load_info(config.name, config.data_dir)
  files = Path(info.directory).glob(f"{config.name}-{config.train_split}.array_record-*")
  return sum(file.stat().st_size for file in files) / info.num_clips[config.train_split]


def time_stages(config: DataConfig, *, batch_size: int, batches: int) -> StageTiming:
  """Makes batches of random windows stage by stage, in this thread; one batch before the clock counts.

  Args:
    config: the data set and the windows; its training split is read.
    batch_size: clips of a batch, which is stacked and sent to the first device as a whole.
    batches: how many are timed.

  Raises:
    UserError: if the data set is missing, or its clips are too short.
  """
  source = open_clips(config, config.train_split)
  random = np.random.default_rng(0)
  clock, sizes = _Clock(), []
  for batch in range(1 + batches):
    indices = random.integers(len(source), size=batch_size)
    found = [_timed_window(clock, source, int(index), random, config) for index in indices]
    with clock.counts("batch"):
      stacked = np.stack([video for video, _ in found])
    with clock.counts("transfer"):
      jax.block_until_ready(jax.device_put(stacked))
    if batch == 0:
      clock = _Clock()
    else:
      sizes += [size for _, size in found]
  record_bytes, window_bytes = np.mean(sizes, axis=0).tolist()
  seconds = {stage: clock.seconds[stage] / (batches * batch_size) for stage in STAGES}
  return StageTiming(seconds=seconds, record_bytes=record_bytes, window_bytes=window_bytes)


def time_windows(config: DataConfig, *, repeats: int) -> WindowCost:
  """Times random windows against whole clips, taking turns: both are read from their records, decoded and cut.

  Args:
    config: the data set and the windows; its training split is read.
    repeats: how many clips to take, at random.

  Raises:
    UserError: if the data set is missing, or its clips are too short.
  """
  source = open_clips(config, config.train_split)
  random = np.random.default_rng(0)
  window, whole, lengths = [], [], []
  for index in random.integers(len(source), size=repeats).tolist():
    length = len(source[index]["frames"])
    start = int(random.integers(length - config.clip_length + 1))
    window.append(_seconds_of(source, index, _window(start, config), config))
    whole.append(_seconds_of(source, index, range(length), config))
    lengths.append(length)
  return WindowCost(
    window=statistics.median(window), whole=statistics.median(whole), num_frames=statistics.mean(lengths)
  )


class _Clock:
  """Adds up the seconds of stages."""

  def __init__(self) -> None:
    self.seconds = dict.fromkeys(STAGES, 0.0)

  @contextlib.contextmanager
  def counts(self, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    self.seconds[stage] += time.perf_counter() - start


def _timed_window(
  clock: _Clock, source: ClipSource, index: int, random: np.random.Generator, config: DataConfig
) -> tuple[np.ndarray, tuple[int, int]]:
  """uint8[T, H, W, C], and the bytes of the record and of the window's frames in it."""
  with clock.counts("read"):
    record = source.read(index)
  with clock.counts("parse"):
    frames = parse_clip(record)["frames"]
    start = int(random.integers(len(frames) - config.clip_length + 1))
    encoded = [frames[place] for place in _window(start, config)]
  with clock.counts("decode"):
    images = [frames_lib.decode_frame(data, channels=config.channels) for data in encoded]
  with clock.counts("resize and crop"):
    video = np.stack([transforms.cut_square(image, resolution=config.resolution) for image in images])
  return video, (len(record), sum(map(len, encoded)))


def _window(start: int, config: DataConfig) -> range:
  return range(start, start + config.clip_length, config.frame_stride)


def _seconds_of(source: ClipSource, index: int, places: Sequence[int], config: DataConfig) -> float:
  """Reading, decoding and cutting these frames of a clip."""
  start = time.perf_counter()
  frames = source[index]["frames"]
  wanted = (frames[place] for place in places)
  transforms.decode_squares(wanted, resolution=config.resolution, channels=config.channels)
  return time.perf_counter() - start
