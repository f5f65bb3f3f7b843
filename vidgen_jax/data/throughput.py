"""Clips per second of the pipeline, and the time of its stages."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vidgen_jax.data import records, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.records import open_clips, parse_clip


def measure_clips_per_second(iterator: Iterator[Mapping[str, np.ndarray]], *, seconds: float = 3.0) -> float:
  """Drains an iterator of batches with 'label' for some time and returns this process's clips per second.

  The first two batches are not counted: they start threads and fill buffers. Batches that are ready when the clock
  starts are counted, so `seconds` should be many times the duration of a batch.
  """
  batches = iter(iterator)
  for _ in range(2):
    next(batches, None)
  clips, elapsed, start = 0, 0.0, time.perf_counter()
  while elapsed < seconds and (batch := next(batches, None)) is not None:
    clips += np.asarray(batch["label"]).size
    elapsed = time.perf_counter() - start
  return clips / elapsed


def stored_bytes_per_clip(config: DataConfig) -> float:
  """Size of the files of the training split, divided by its clips."""
  info = records.load_info(config.name, config.data_dir)
  files = info.directory.glob(f"{config.name}-{config.train_split}.array_record-*")
  return sum(file.stat().st_size for file in files) / info.num_clips[config.train_split]


def time_stages(config: DataConfig, *, batch_size: int, batches: int) -> tuple[dict[str, float], float, float]:
  """Times each stage of batches of random training windows in this thread, after one batch for warm-up.

  Returns:
    Mean seconds per clip by stage, mean size of a record and of the encoded frames of a window in bytes.
  """
  source = open_clips(config, config.train_split)
  random = np.random.default_rng(0)
  sizes, seconds = [], defaultdict(float)

  def timed(stage: str, function: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = function()
    seconds[stage] += time.perf_counter() - start
    return result

  def window() -> np.ndarray:
    index = int(random.integers(len(source)))
    record = timed("read", lambda: source.read(index))
    clip = timed("parse", lambda: parse_clip(record)["frames"])
    start = int(random.integers(len(clip) - config.clip_length + 1))
    encoded = timed("parse", lambda: transforms.window_frames(clip, start, config))
    images = timed("decode", lambda: [transforms.decode_frame(data, channels=config.channels) for data in encoded])
    sizes.append((len(record), sum(map(len, encoded))))
    return timed(
      "resize and crop", lambda: np.stack([transforms.cut_square(image, **config.square) for image in images])
    )

  for batch in range(1 + batches):
    if batch == 1:
      sizes.clear()
      seconds.clear()
    videos = [window() for _ in range(batch_size)]
    stacked = timed("batch", lambda: np.stack(videos))  # noqa: B023
    timed("transfer", lambda: jax.block_until_ready(jax.device_put(stacked)))  # noqa: B023
  record_bytes, window_bytes = np.mean(sizes, axis=0).tolist()
  per_clip = {stage: total / (batches * batch_size) for stage, total in seconds.items()}
  return per_clip, record_bytes, window_bytes


def time_windows(config: DataConfig, *, repeats: int) -> tuple[float, float, float]:
  """Times reading, decoding and cropping of random training windows and of the whole clips, alternating.

  Returns:
    Median seconds of a window, median seconds of all frames of the same clips, mean number of frames of these clips.
  """
  source = open_clips(config, config.train_split)
  random = np.random.default_rng(0)

  def seconds(index: int, wanted: range) -> float:
    begin = time.perf_counter()
    encoded = source[index]["frames"]
    transforms.decode_window((encoded[i] for i in wanted), config)
    return time.perf_counter() - begin

  window, whole, lengths = [], [], []
  for index in random.integers(len(source), size=repeats).tolist():
    length = len(source[index]["frames"])
    start = int(random.integers(length - config.clip_length + 1))
    window.append(seconds(index, range(start, start + config.clip_length, config.frame_stride)))
    whole.append(seconds(index, range(length)))
    lengths.append(length)
  return statistics.median(window), statistics.median(whole), statistics.mean(lengths)
