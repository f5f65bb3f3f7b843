"""Grain pipeline from a built data set to batches: seeded, sharded by process, resumable with bitwise equal batches.

Video stays uint8 here and is normalised on the device.
"""

import _thread
import atexit
import dataclasses
import functools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import grain
import numpy as np
from absl import flags

from vidgen_jax.data import records, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError


def train_batches(
  config: DataConfig, *, batch_size: int, microbatches: int, seed: int, batch_indices: Sequence[int] | None = None
) -> "TrainingStream":
  """Creates an endless stream of training batches: {'video': uint8[K, B, T, H, W, C], 'label': int32[K, B]}.

  Every epoch contains each clip once, in another order and with other windows. A batch may span two epochs, so a data
  set may be smaller than a batch. The global batches do not depend on the number of processes, `config.workers`,
  `config.num_threads` or `config.prefetch`.

  Args:
    config: data set, windows and reading threads.
    batch_size: clips of a micro-batch over all processes.
    microbatches: number of micro-batches K.
    seed: seed of order and windows, equal on all processes.
    batch_indices: indices of this process's B clips in a micro-batch, see `mesh.local_batch_indices`; None for all.

  Raises:
    UserError: if the data set is missing, or all its clips are too short.
  """
  source = records.open_clips(config, config.train_split)
  clips = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  # A seed of its own, so that windows are independent of the order.
  window_seed = int(np.random.SeedSequence([seed, 0]).generate_state(1)[0])
  cut = functools.partial(transforms.random_window, config=config)
  reader = _BatchReader(
    clips=clips.random_map(cut, seed=window_seed),
    microbatches=microbatches,
    batch_size=batch_size,
    batch_indices=range(batch_size) if batch_indices is None else batch_indices,
    num_threads=config.num_threads,
  )
  return TrainingStream(reader, config)


def eval_batches(
  config: DataConfig, split: str, *, batch_size: int, num_clips: int | None
) -> Iterator[dict[str, np.ndarray]]:
  """Iterates once over the windows `config.eval_window` of the clips of a split, cropped to their centre square.

  One window per clip is in record order; 'all' windows are shuffled with a fixed seed.

  Args:
    config: data set, windows and reading threads.
    split: name of the split.
    batch_size: number of windows B of a batch.
    num_clips: number of windows; None for all.

  Returns:
    An iterator of {'video': uint8[B, T, H, W, C], 'label': int32[B]}; the last batch may be shorter.

  Raises:
    UserError: if the data set or the split is missing, all its clips are too short, or `num_clips` < 1.
  """
  if num_clips is not None and num_clips < 1:
    raise UserError(f"the number of evaluation clips must be at least 1, got {num_clips}")
  source = records.open_clips(config, split)
  # Fixed seeds: the windows do not depend on the seed of a run.
  if config.eval_window == "all":
    windows = np.random.default_rng(0).permutation(_all_windows(source, config))[:num_clips].tolist()
    clips = grain.MapDataset.source(windows).map(lambda at: transforms.cut_window(source[at[0]], at[1], config))
  else:
    cut = functools.partial(transforms.evaluation_window, config=config)
    clips = grain.MapDataset.source(source).random_map(cut, seed=0)[:num_clips]
  buffered = max(config.prefetch * batch_size, config.num_threads)
  options = grain.ReadOptions(num_threads=config.num_threads, prefetch_buffer_size=buffered)
  return iter(clips.to_iter_dataset(options).batch(batch_size, drop_remainder=False))


def _all_windows(source: records.ClipSource, config: DataConfig) -> list[tuple[int, int]]:
  """(clip, first frame) of every window, `config.eval_window_stride` apart."""
  return [
    (clip, start)
    for clip, length in enumerate(source.num_frames)
    for start in range(0, length - config.clip_length + 1, config.eval_window_stride)
  ]


class TrainingStream(grain.DatasetIterator):
  """Endless iterator of training batches that seeks to any position without reading the clips before it.

  Its state is {'next_index': delivered clips of all processes}, so a state can be restored with another number of
  processes, threads or workers. This works because a batch is a function of its position: each process makes its
  own clips of every batch, and a worker makes its process's part of a batch as a whole, with several threads.

  Memory: `config.prefetch` batches in addition to the last one delivered; at least two per worker process.
  """

  def __init__(self, reader: "_BatchReader", config: DataConfig):
    super().__init__()
    self._opened: list[Any] = []
    self._reader, self._config = reader, config
    self._delivered = 0
    weakref.finalize(self, _close_in_thread, self._opened).atexit = False
    _close_at_exit()
    _live.add(self)

  def __next__(self) -> dict[str, np.ndarray]:
    self._assert_not_closed()
    batch = next(self._open())
    self._delivered += self._reader.clips_per_batch
    return batch

  def get_state(self) -> dict[str, int]:
    """Position of the stream; JSON-compatible."""
    return {"next_index": self._delivered}

  def set_state(self, state: Mapping[str, int]) -> None:
    """Seeks to a position from `get_state`, also of another iterator of the same clips; ValueError for other states."""
    position = state.get("next_index")
    if set(state) != {"next_index"} or not isinstance(position, int) or position < 0:
      raise ValueError(f"the state of a training stream is {{'next_index': number of clips}}, got {dict(state)}")
    if position != self._delivered:
      _close(self._opened)
      self._delivered = position

  def close(self) -> None:
    """Stops threads and worker processes, as do garbage collection and the end of the program; final."""
    self._closed = True
    _close(self._opened)

  def __del__(self) -> None:
    """Leaves closing to `weakref.finalize`: at exit, modules that closing needs may be gone already."""

  def _open(self) -> grain.DatasetIterator:
    if not self._opened:
      reader = dataclasses.replace(self._reader, first=self._delivered)
      batches = grain.MapDataset.range(len(reader.clips) // reader.clips_per_batch).map(reader)
      # `prefetch` batches are requested at once, each by a thread that waits for the threads of the reader.
      ahead = -(-self._config.prefetch // max(1, self._config.workers))
      stream = batches.to_iter_dataset(grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead))
      if self._config.workers:
        # Grain's processes read Grain's absl flags, which are unparsed unless the program was started by `absl.app`.
        flags.FLAGS.mark_as_parsed()
        # Each of n workers makes every n-th batch.
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._config.workers))
      self._opened[:] = [reader, iter(stream)]
    return self._opened[-1]


@dataclasses.dataclass(eq=False, kw_only=True)
class _BatchReader(grain.transforms.Map):
  """Reads and decodes this process's part of batch n, counted from clip `first`; batches share the threads."""

  clips: Any  # grain.MapDataset; its type does not say that it has an element at every index.
  microbatches: int
  batch_size: int
  batch_indices: Sequence[int]
  num_threads: int
  first: int = 0

  def __post_init__(self):
    self._pool = futures.ThreadPoolExecutor(self.num_threads, thread_name_prefix="vidgen-read")

  def __reduce__(self) -> tuple[Any, ...]:
    # A worker process starts its own threads.
    return functools.partial(_BatchReader, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}), ()

  @property
  def clips_per_batch(self) -> int:
    """Clips of a batch over all micro-batches and processes."""
    return self.microbatches * self.batch_size

  def map(self, element: int) -> dict[str, np.ndarray]:
    """Index of a batch -> its arrays, with leading axes [K, B]."""
    first = self.first + int(element) * self.clips_per_batch
    starts = range(first, first + self.clips_per_batch, self.batch_size)
    clips = list(self._pool.map(self.clips.__getitem__, [start + i for start in starts for i in self.batch_indices]))
    stacked = {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}
    leading = (self.microbatches, len(self.batch_indices))
    return {name: array.reshape(*leading, *array.shape[1:]) for name, array in stacked.items()}

  def close(self) -> None:
    """Drops clips whose reading has not begun, and stops the threads."""
    self._pool.shutdown(wait=False, cancel_futures=True)


_live: "weakref.WeakSet[TrainingStream]" = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
  """Closes open streams at the end of the program, while all modules still exist."""
  atexit.register(lambda: [_close(stream._opened) for stream in list(_live)])


def _close_in_thread(opened: list[Any]) -> None:
  """Closes in another thread: the garbage collector may run while this thread holds locks that closing needs."""
  _thread.start_new_thread(_close, (opened,))


def _close(opened: list[Any]) -> None:
  while opened:
    opened.pop(0).close()
