"""Clips from mp4 files as they are commonly read with PyTorch: a DataLoader whose data set decodes with PyAV.

The measure of comparison for the pipeline, which decodes a video once, when the data set is built.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vidgen_jax.data import pipeline
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.throughput import measure_clips_per_second
from vidgen_jax.errors import UserError

_ENDLESS = 1_000_000
"""Clips of an epoch: no measurement gets there, and the sampler of a DataLoader lists them all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderSpeeds:
  """Clips per second, medians of runs that took turns.

  Attributes:
    ours: of the pipeline.
    pytorch: of PyTorch's DataLoader with PyAV.
    cores: that each of them could use.
  """

  ours: float
  pytorch: float
  cores: int


class VideoWindows:
  """A map-style data set of random windows, in time and place: `windows[i]` is {'video', 'label'}.

  Args:
    files: the videos; each is opened when a window of it is wanted.
    num_frames: T.
    resolution: H = W in pixels; the smallest side is resized to it, and a square is cut out.

  Raises:
    UserError: if a file does not say how many frames it has, or has too few.
  """

  def __init__(self, files: Sequence[Path], *, num_frames: int, resolution: int):
    self._files, self._num_frames, self._resolution = list(files), num_frames, resolution
    self._lengths = [_count_frames(file) for file in files]
    for file, length in zip(files, self._lengths, strict=True):
      if length < num_frames:
        raise UserError(f"{file} has {length or 'an unknown number of'} frames, and {num_frames} are needed")

  def __len__(self) -> int:
    return _ENDLESS

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """uint8[T, H, W, 3] and the file's number; PyTorch's collation makes tensors of a batch."""
    random = np.random.default_rng(index)
    file = index % len(self._files)
    start = int(random.integers(self._lengths[file] - self._num_frames + 1))
    frames = read_window(self._files[file], start, num_frames=self._num_frames, smallest_side=self._resolution)
    top, left = (int(random.integers(side - self._resolution + 1)) for side in frames.shape[1:3])
    square = frames[:, top : top + self._resolution, left : left + self._resolution]
    return {"video": np.ascontiguousarray(square), "label": np.int64(file)}


def read_window(file: Path, start: int, *, num_frames: int, smallest_side: int) -> np.ndarray:
  """Decodes consecutive frames: seeks to the key frame before them, and decodes from there, in one thread.

  Args:
    file: of a constant frame rate.
    start: index of the first frame.
    num_frames: T.
    smallest_side: of the frames, in pixels; FFmpeg resizes and converts to RGB in one step (bilinear).

  Returns:
    uint8[T, H, W, 3].
  """
  with av.open(file) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # The DataLoader's processes are what is parallel.
    context = stream.codec_context
    scale = Fraction(smallest_side, min(context.width, context.height))
    size = {"width": round(context.width * scale), "height": round(context.height * scale)}
    first = (stream.start_time or 0) + round(start / (stream.average_rate * stream.time_base))
    container.seek(first, stream=stream)
    frames = []
    for frame in container.decode(stream):
      if frame.pts >= first:
        frames.append(frame.to_ndarray(format="rgb24", **size, interpolation="BILINEAR"))
      if len(frames) == num_frames:
        break
  return np.stack(frames)


def time_readers(
  config: DataConfig, files: Sequence[Path], *, workers: int, batch_size: int, seconds: float, rounds: int = 3
) -> ReaderSpeeds:
  """Times the pipeline on a data set against PyTorch's DataLoader on the videos that it was built from.

  With as many worker processes each, of one reading thread; without any, both read in one thread of this process.

  Args:
    config: the data set and the windows.
    files: the videos.
    workers: processes of each.
    batch_size: clips of a batch.
    seconds: of each measurement.
    rounds: how often they take turns.

  Raises:
    UserError: if PyTorch is missing, or the data set, or a video is too short.
  """
  config = dataclasses.replace(config, workers=workers, num_threads=1, prefetch=2)
  windows = VideoWindows(files, num_frames=config.num_frames, resolution=config.resolution)
  ours, pytorch = [], []
  for _ in range(rounds):
    pytorch.append(
      measure_clips_per_second(_loader_batches(windows, workers=workers, batch_size=batch_size), seconds=seconds)
    )
    stream = pipeline.train_batches(config, batch_size=batch_size, microbatches=1, seed=0)
    ours.append(measure_clips_per_second(stream, seconds=seconds))
    stream.close()
  return ReaderSpeeds(ours=statistics.median(ours), pytorch=statistics.median(pytorch), cores=max(1, workers))


def _loader_batches(windows: VideoWindows, *, workers: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
  try:
    from torch.utils import data
  except ImportError as error:
    raise UserError(
      "--pytorch needs PyTorch, which the extra 'parity' installs: pip install 'vidgen-jax[parity]'"
    ) from (error)
  # Forked processes would inherit JAX's threads.
  context = "spawn" if workers else None
  return iter(
    data.DataLoader(
      windows, batch_size=batch_size, shuffle=True, num_workers=workers, multiprocessing_context=context, drop_last=True
    )
  )


def _count_frames(file: Path) -> int:
  try:
    with av.open(file) as container:
      return container.streams.video[0].frames
  except (av.FFmpegError, IndexError) as error:
    raise UserError(f"{file} cannot be read as a video: {error}") from error
