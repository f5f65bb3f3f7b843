"""The endless stream of training batches, whose place is one number: the clips that were delivered.

The stream is that of the whole job: each of its processes makes the clips of its own places in every batch. A worker
makes its process's part of a batch as a whole, by several threads. So neither the number of threads, nor that of
workers, nor that of the job's processes can be seen in the batches, and a place that was saved with one number of them
is good for any other.
"""

import _thread
import atexit
import functools
import weakref
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

import grain
import numpy as np
from absl import flags

from vidgen_jax.data.config import DataConfig


class BatchReader(grain.transforms.Map):
  """This process's part of the n-th batch of a stream of clips, read and decoded by several threads at once.

  Args:
    clips: what is read: dicts of arrays, each clip the same at every reading.
    microbatches: K.
    batch_size: clips of a micro-batch, over all processes.
    places: this process's places in every micro-batch, B of them.
    first: index of the clip that the first batch begins with.
    num_threads: threads; batches that are asked for together share them, the earlier one first.
  """

  def __init__(
    self,
    clips: grain.MapDataset,
    *,
    microbatches: int,
    batch_size: int,
    places: Sequence[int],
    first: int,
    num_threads: int,
  ):
    self._clips, self._first, self._num_threads = clips, first, num_threads
    self._microbatches, self._batch_size, self._places = microbatches, batch_size, tuple(places)
    self._pool = futures.ThreadPoolExecutor(num_threads, thread_name_prefix="vidgen-read")

  def __reduce__(self) -> tuple[Any, ...]:
    # A worker process gets threads of its own.
    return functools.partial(
      BatchReader,
      self._clips,
      microbatches=self._microbatches,
      batch_size=self._batch_size,
      places=self._places,
      first=self._first,
      num_threads=self._num_threads,
    ), ()

  def map(self, element: int) -> dict[str, np.ndarray]:
    """Index of a batch -> its arrays, with leading axes [K, B]."""
    first = self._first + int(element) * self._microbatches * self._batch_size
    starts = range(first, first + self._microbatches * self._batch_size, self._batch_size)
    clips = list(self._pool.map(self._clips.__getitem__, [start + place for start in starts for place in self._places]))
    stacked = {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}
    leading = (self._microbatches, len(self._places))
    return {name: array.reshape(*leading, *array.shape[1:]) for name, array in stacked.items()}

  def close(self) -> None:
    """Drops what was not begun, and ends the threads."""
    self._pool.shutdown(wait=False, cancel_futures=True)


class TrainingStream(grain.DatasetIterator):
  """An endless iterator of training batches that can be put to any place without reading what lies before.

  Its state is {'next_index': clips that were delivered}, a number of clips of all processes together: it does not
  depend on their number, nor on `config.workers`, `config.num_threads` and `config.prefetch`.

  Memory: `config.prefetch` batches are ready or being made, beside the one that was taken last; each worker process
  holds two at least. A batch is read by `config.num_threads` threads of one process.

  Args:
    clips: an endless dataset of the job's clips, in the order of delivery: dicts of arrays.
    config: threads, buffer and worker processes.
    microbatches: K.
    batch_size: clips of a micro-batch, over all processes.
    places: this process's places in every micro-batch, ascending, B of them; None for all.
  """

  def __init__(
    self,
    clips: grain.MapDataset,
    config: DataConfig,
    *,
    microbatches: int,
    batch_size: int,
    places: Sequence[int] | None = None,
  ):
    super().__init__()
    self._opened: list[Any] = []
    self._clips, self._config = clips, config
    self._microbatches, self._batch_size = microbatches, batch_size
    self._places = range(batch_size) if places is None else places
    self._delivered = 0
    # Not here and now: the garbage collector may run while this thread holds locks that closing needs.
    weakref.finalize(self, _thread.start_new_thread, _close, (self._opened,)).atexit = False
    _close_at_exit()
    _live.add(self)

  @property
  def clips_per_batch(self) -> int:
    """Of all processes together."""
    return self._microbatches * self._batch_size

  def __next__(self) -> dict[str, np.ndarray]:
    self._assert_not_closed()
    batch = next(self._open())
    self._delivered += self.clips_per_batch
    return batch

  def get_state(self) -> dict[str, int]:
    """The place; JSON-compatible."""
    return {"next_index": self._delivered}

  def set_state(self, state: Mapping[str, int]) -> None:
    """Continues where `get_state` was called, on this iterator or another one of the same clips.

    Raises:
      ValueError: if it is the state of something else.
    """
    place = state.get("next_index")
    if set(state) != {"next_index"} or not isinstance(place, int) or place < 0:
      raise ValueError(f"the place of a training stream is {{'next_index': number of clips}}, got {dict(state)}")
    if place != self._delivered:
      _close(self._opened)
      self._delivered = place

  def start_prefetch(self) -> None:
    """Begins to read."""
    self._open().start_prefetch()

  def close(self) -> None:
    """Ends threads and worker processes; nothing can be read any more.

    Happens by itself when nothing refers to the stream, and when the program ends.
    """
    self._closed = True
    _close(self._opened)

  def __del__(self) -> None:
    """Leaves closing to `weakref.finalize`, which does not wait until modules are gone."""

  def __str__(self) -> str:
    return f"TrainingStream(microbatches={self._microbatches}, batch_size={self._batch_size})"

  def _open(self) -> grain.DatasetIterator:
    if not self._opened:
      reader = BatchReader(
        self._clips,
        microbatches=self._microbatches,
        batch_size=self._batch_size,
        places=self._places,
        first=self._delivered,
        num_threads=self._config.num_threads,
      )
      batches = grain.MapDataset.range(len(self._clips) // self.clips_per_batch).map(reader)
      stream = _read_ahead(batches, prefetch=self._config.prefetch, workers=self._config.workers)
      self._opened[:] = [reader, stream]
    return self._opened[-1]


_live: "weakref.WeakSet[TrainingStream]" = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
  """Closes what is open at the end of the program, before modules are gone."""
  atexit.register(lambda: [_close(stream._opened) for stream in list(_live)])


def _close(opened: list[Any]) -> None:
  """Closes the reader and Grain's iterator, and forgets them."""
  while opened:
    opened.pop(0).close()


def _read_ahead(batches: grain.MapDataset, *, prefetch: int, workers: int) -> grain.DatasetIterator:
  """`prefetch` batches are asked for at once; worker processes divide them, and take every n-th batch each."""
  ahead = -(-prefetch // max(1, workers))
  # One thread for each of these batches, which waits for those of the reader.
  stream = batches.to_iter_dataset(grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead))
  if workers:
    # Grain's processes read its own flags, which are unparsed unless the program was started by `absl.app`.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  return iter(stream)
