"""Prefetch of batches to the devices, with the data iterator state of the last delivered batch."""

import collections
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Self

from vidgen_jax.types import Batch


class DevicePrefetch:
  """Iterator that reads batches and transfers them to the devices in a thread, up to `depth` batches ahead.

  Transfers overlap with the running step, and a single slow read does not delay it. `get_state` ignores batches that
  were read ahead. No communication between processes takes place, so they may be ahead by different numbers of batches.
  The thread starts with the first `start_prefetch` or `next`.

  Args:
    iterator: iterator of host batches, optionally with `get_state`. Nothing else may use it until `close`; it is then
      ahead of the delivered batches.
    place: function that transfers a batch to the devices.
    depth: number of batches on the devices in addition to the last delivered one, at least 1.
  """

  def __init__(self, iterator: Iterator[Any], place: Callable[[Any], Batch], *, depth: int):
    if depth < 1:
      raise ValueError(f"prefetching needs depth >= 1, got {depth=}")
    self._iterator, self._place, self._depth = iterator, place, depth
    self._get_state: Callable[[], Any] = getattr(iterator, "get_state", lambda: None)
    self._ahead: collections.deque[futures.Future[tuple[Batch, Any]]] = collections.deque()
    # A single thread keeps the order of the batches.
    self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="device-prefetch")
    self._state = self._get_state()

  def __iter__(self) -> Self:
    return self

  def __next__(self) -> Batch:
    self.start_prefetch()
    batch, state = self._ahead[0].result()  # A failed read stays in the queue, so the next call raises again.
    self._ahead.popleft()
    self._state = state
    self.start_prefetch()
    return batch

  def get_state(self) -> Any:
    """Data iterator state after the last delivered batch; None if the iterator has none."""
    return self._state

  def start_prefetch(self) -> None:
    """Starts to read up to `depth` batches."""
    while len(self._ahead) < self._depth:
      self._ahead.append(self._thread.submit(self._read))

  def close(self) -> None:
    """Ends the thread after its current batch; the iterator stays open."""
    self._thread.shutdown(cancel_futures=True)
    self._ahead.clear()

  def _read(self) -> tuple[Batch, Any]:
    batch = self._place(next(self._iterator))
    return batch, self._get_state()
