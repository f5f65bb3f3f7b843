"""Compares the data pipeline with a common PyTorch reader: a DataLoader whose data set decodes mp4 files with PyAV.

The pipeline decodes each video once, when the data set is built; --videos is the folder that --name was built from.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from absl import flags

from benchmarks.script import run_script
from vidgen_jax.bench.measurements import Measurement, Report, describe
from vidgen_jax.commands.flag_parsing import integers
from vidgen_jax.data import pipeline
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.throughput import measure_clips_per_second
from vidgen_jax.errors import UserError

_VIDEO_SUFFIXES = (".mp4", ".avi", ".webm")
# Clips of an epoch: more than any measurement reads, but few enough for a DataLoader's sampler to list.
_ENDLESS = 1_000_000


class VideoWindows:
  """Map-style data set of random windows, in time and space: `windows[i]` is {'video', 'label'}.

  Args:
    files: videos; a file is opened each time that one of its windows is read.
    num_frames: T.
    resolution: H = W in pixels; the smallest side is resized to it, and a square is cropped.

  Raises:
    UserError: if a file does not state its number of frames, or has too few.
  """

  def __init__(self, files: Sequence[Path], *, num_frames: int, resolution: int):
    self._files, self._num_frames, self._resolution = list(files), num_frames, resolution
    self._lengths = [_count_frames(file) for file in files]
    for file, length in zip(files, self._lengths, strict=True):
      if length < num_frames:
        raise UserError(f"{file} has {length or 'an unknown number of'} frames, but {num_frames} are needed")

  def __len__(self) -> int:
    return _ENDLESS

  def __getitem__(self, index: int) -> dict[str, np.ndarray | np.generic]:
    """uint8[T, H, W, 3] and the file's number; PyTorch's collation makes tensors of a batch."""
    random = np.random.default_rng(index)
    file = index % len(self._files)
    start = int(random.integers(self._lengths[file] - self._num_frames + 1))
    frames = read_window(self._files[file], start, num_frames=self._num_frames, smallest_side=self._resolution)
    top, left = (int(random.integers(side - self._resolution + 1)) for side in frames.shape[1:3])
    square = frames[:, top : top + self._resolution, left : left + self._resolution]
    return {"video": np.ascontiguousarray(square), "label": np.int64(file)}


def read_window(file: Path, start: int, *, num_frames: int, smallest_side: int) -> np.ndarray:
  """Decodes consecutive frames in one thread: seeks to the last key frame before them and decodes from there.

  Args:
    file: video of a constant frame rate.
    start: index of the first frame.
    num_frames: T.
    smallest_side: smallest side of the frames in pixels; FFmpeg resizes and converts to RGB in one step (bilinear).

  Returns:
    uint8[T, H, W, 3].
  """
  with av.open(file) as container:
    stream = container.streams.video[0]
    context = stream.codec_context
    context.thread_count = 1  # The DataLoader's processes provide the parallelism.
    scale = Fraction(smallest_side, min(context.width, context.height))
    width, height = round(context.width * scale), round(context.height * scale)
    if stream.average_rate is None or stream.time_base is None:
      raise UserError(f"{file} states no frame rate")
    first = (stream.start_time or 0) + round(start / (stream.average_rate * stream.time_base))
    container.seek(first, stream=stream)
    frames = []
    for frame in container.decode(stream):
      if frame.pts is not None and frame.pts >= first:
        frames.append(frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BILINEAR"))
      if len(frames) == num_frames:
        break
  return np.stack(frames)


def compare(
  config: DataConfig, files: Sequence[Path], *, workers: int, batch_size: int, seconds: float, rounds: int = 3
) -> list[Measurement]:
  """Times the pipeline on a data set and PyTorch's DataLoader on the videos that it was built from.

  Both have the same number of worker processes with one reading thread each; without workers, both read in one thread
  of this process.

  Args:
    config: data set and windows.
    files: the videos.
    workers: number of worker processes of each reader.
    batch_size: clips of a batch.
    seconds: duration of each measurement.
    rounds: number of turns of each reader.

  Returns:
    Medians of clips per second and core, and their ratio.

  Raises:
    UserError: if PyTorch or the data set is missing, or a video is too short.
  """
  config = dataclasses.replace(config, workers=workers, num_threads=1, prefetch=2)
  windows = VideoWindows(files, num_frames=config.num_frames, resolution=config.resolution)
  ours, pytorch = [], []
  for _ in range(rounds):
    batches = _loader_batches(windows, workers=workers, batch_size=batch_size)
    pytorch.append(measure_clips_per_second(batches, seconds=seconds))
    stream = pipeline.train_batches(config, batch_size=batch_size, microbatches=1, seed=0)
    ours.append(measure_clips_per_second(stream, seconds=seconds))
    stream.close()
  pipeline_speed, pytorch_speed = statistics.median(ours), statistics.median(pytorch)
  cores, suffix = max(1, workers), f", {workers} workers" if workers else ", no worker"
  unit, note = "clips/s", f"per core, on {cores}"
  return [
    Measurement(name=f"pipeline{suffix}", value=pipeline_speed / cores, unit=unit, note=note),
    Measurement(name=f"PyTorch and PyAV{suffix}", value=pytorch_speed / cores, unit=unit, note=note),
    Measurement(name=f"pipeline / PyTorch{suffix}", value=pipeline_speed / pytorch_speed, at_least=5.0),
  ]


def _loader_batches(windows: VideoWindows, *, workers: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
  try:
    from torch.utils.data import DataLoader
  except ImportError as error:
    raise UserError("PyTorch is missing; install the extra 'parity': pip install -e '.[parity]'") from error
  # Forked processes would inherit JAX's threads.
  context = "spawn" if workers else None
  dataset: Any = windows
  return iter(
    DataLoader(
      dataset, batch_size=batch_size, shuffle=True, num_workers=workers, multiprocessing_context=context, drop_last=True
    )
  )


def _count_frames(file: Path) -> int:
  try:
    with av.open(file) as container:
      return container.streams.video[0].frames
  except (av.FFmpegError, IndexError) as error:
    raise UserError(f"{file} cannot be read as a video: {error}") from error


def _define_flags(flag_values: flags.FlagValues) -> None:
  flags.DEFINE_string("name", None, "data set", required=True, flag_values=flag_values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets", required=True, flag_values=flag_values)
  flags.DEFINE_string("videos", None, "folder of the data set's videos", required=True, flag_values=flag_values)
  flags.DEFINE_integer("num_frames", 16, "frames of a window", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer("resolution", 64, "height and width of a window", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_list("workers", ["0", "1", "2"], "numbers of worker processes to compare", flag_values=flag_values)
  flags.DEFINE_integer("batch_size", 16, "clips of a batch", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_float("seconds", 5.0, "duration of each measurement", lower_bound=0.1, flag_values=flag_values)


def report(flag_values: flags.FlagValues) -> Report:
  """Measures with the settings of the flags."""
  f = flag_values
  files = sorted(file for file in Path(f.videos).rglob("*") if file.suffix.lower() in _VIDEO_SUFFIXES)
  if not files:
    raise UserError(f"--videos={f.videos} holds no {', '.join(_VIDEO_SUFFIXES)} file")
  config = DataConfig(name=f.name, data_dir=f.data_dir, num_frames=f.num_frames, resolution=f.resolution)
  figures = [
    figure
    for workers in integers("workers", f.workers)
    for figure in compare(config, files, workers=workers, batch_size=f.batch_size, seconds=f.seconds)
  ]
  return Report.of(describe(f.name, videos=len(files), batch=f.batch_size), figures)


if __name__ == "__main__":
  run_script(_define_flags, report)
