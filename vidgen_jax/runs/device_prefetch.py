"""Prefetch of batches to the devices, with the data iterator state of the last delivered batch."""

import collections
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import grain

from vidgen_jax.types import Batch


class DevicePrefetch(grain.DatasetIterator):
  """Reads batches and transfers them to the devices in a thread, up to `depth` batches ahead.

  Transfers overlap with the running step, and a single slow read does not delay it. `get_state` ignores batches that
  were read ahead. No communication between processes takes place, so they may be ahead by different numbers of batches.
  The thread starts with the first `start_prefetch` or `next`.

  Args:
    iterator: iterator of host batches, with or without a state (`get_state`, `set_state`). Nothing else may use it
      until `close`; it is then ahead of the delivered batches.
    place: function that transfers a batch to the devices.
    depth: number of batches on the devices in addition to the last delivered one, at least 1.
  """

  def __init__(self, iterator: Iterator[Any], place: Callable[[Any], Batch], *, depth: int):
    super().__init__()
    if depth < 1:
      raise ValueError(f"prefetching needs depth >= 1, got {depth=}")
    self._iterator, self._place, self._depth = iterator, place, depth
    self._ahead: collections.deque[futures.Future[tuple[Batch, Any]]] = collections.deque()
    # A single thread keeps the order of the batches.
    self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="device-prefetch")
    self._state = self._iterator_state()

  def __next__(self) -> Batch:
    self._assert_not_closed()
    self.start_prefetch()
    batch, state = self._ahead[0].result()  # A failed read stays in the queue, so the next call raises again.
    self._ahead.popleft()
    self._state = state
    self.start_prefetch()
    return batch

  def get_state(self) -> dict[str, Any]:
    """Data iterator state after the last delivered batch."""
    return self._state

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Resumes from a result of `get_state`; drops the batches that were read ahead."""
    self._drop()
    self._iterator.set_state(state)
    self._state = self._iterator_state()

  def start_prefetch(self) -> None:
    """Starts to read up to `depth` batches."""
    while len(self._ahead) < self._depth:
      self._ahead.append(self._thread.submit(self._read))

  def close(self) -> None:
    """Ends the thread after its current batch; the iterator stays open."""
    self._closed = True
    self._drop()
    self._thread.shutdown()

  def __del__(self) -> None:
    """Does not call `close`, which would block the garbage collector; the unreferenced thread pool ends its thread."""

  def __str__(self) -> str:
    return f"DevicePrefetch(depth={self._depth})"

  def _read(self) -> tuple[Batch, Any]:
    batch = self._place(next(self._iterator))
    return batch, self._iterator_state()

  def _iterator_state(self) -> Any:
    return self._iterator.get_state() if hasattr(self._iterator, "get_state") else None

  def _drop(self) -> None:
    while self._ahead:
      future = self._ahead.pop()
      if not future.cancel():
        futures.wait([future])
