"""Batches on the devices ahead of the step that takes them, whose saved place is that of the last one taken."""

import collections
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import grain

from vidgen_jax.types import Batch


class DevicePrefetch(grain.DatasetIterator):
  """Reads batches and puts them onto the devices in a thread of its own, `depth` of them ahead.

  Transfers of the next batches overlap with the running step, and a read that takes longer than a step for once is not
  waited for. What was read ahead has no part in the state: `get_state` tells the place behind the batch that was
  delivered last. Nothing here speaks with other processes, so each may be ahead as far as it got.

  The thread starts with the first batch that is asked for.

  Args:
    iterator: yields host batches; if it has a place (`get_state`, `set_state`), so has this. It is used by no one else
      until `close`, and is then ahead of what was delivered.
    place: puts one onto the devices.
    depth: batches on the devices beside the one that was delivered last, >= 1.
  """

  def __init__(self, iterator: Iterator[Any], place: Callable[[Any], Batch], *, depth: int):
    super().__init__()
    if depth < 1:
      raise ValueError(f"prefetching needs depth >= 1, got {depth=}")
    self._iterator, self._place, self._depth = iterator, place, depth
    self._ahead: collections.deque[futures.Future[tuple[Batch, Any]]] = collections.deque()
    # One thread: batches are read in their order.
    self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="device-prefetch")
    self._state = self._position()

  def __next__(self) -> Batch:
    self._assert_not_closed()
    self.start_prefetch()
    batch, state = self._ahead[0].result()  # An error stays there, so that asking again tells it again.
    self._ahead.popleft()
    self._state = state
    self.start_prefetch()
    return batch

  def get_state(self) -> dict[str, Any]:
    """The iterator's place behind the batch that was delivered last."""
    return self._state

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Continues from there; what was read ahead is dropped."""
    self._drop()
    self._iterator.set_state(state)
    self._state = self._position()

  def start_prefetch(self) -> None:
    """Begins to read."""
    while len(self._ahead) < self._depth:
      self._ahead.append(self._thread.submit(self._read))

  def close(self) -> None:
    """Ends the thread, once it is through with the batch that it reads; the iterator stays open."""
    self._closed = True
    self._drop()
    self._thread.shutdown()

  def __del__(self) -> None:
    """The thread ends when nothing refers to it; `close` would wait for it."""

  def __str__(self) -> str:
    return f"DevicePrefetch(depth={self._depth})"

  def _read(self) -> tuple[Batch, Any]:
    batch = self._place(next(self._iterator))
    return batch, self._position()

  def _position(self) -> Any:
    return self._iterator.get_state() if hasattr(self._iterator, "get_state") else None

  def _drop(self) -> None:
    while self._ahead:
      future = self._ahead.pop()
      if not future.cancel():
        futures.wait([future])
