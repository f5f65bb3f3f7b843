"""Prefetched batches: their order, their number, and the iterator state."""

import itertools
import json
import threading
import time

import jax
import numpy as np
import pytest

from vidgen_jax.parallel.mesh import DevicePrefetch


class Counter:
  """Yields 0, 1, ... up to `stop`; its state is the next number."""

  def __init__(self, stop: int = 100):
    self.next, self.stop = 0, stop

  def __iter__(self):
    return self

  def __next__(self) -> int:
    if self.next == self.stop:
      raise StopIteration
    self.next += 1
    return self.next - 1

  def get_state(self):
    return {"next": self.next}

  def set_state(self, state):
    self.next = state["next"]


def wait_until(condition):
  deadline = time.monotonic() + 10
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.005)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_batches_arrive_in_order_with_the_state_of_the_last_one(depth):
  source = Counter()
  batches = DevicePrefetch(source, lambda number: 10 * number, depth=depth)
  assert batches.get_state() == {"next": 0}
  for number in range(7):
    assert next(batches) == 10 * number
    assert batches.get_state() == {"next": number + 1}
  # The source is ahead by `depth` batches and no more.
  wait_until(lambda: source.next == 7 + depth)
  time.sleep(0.05)
  assert source.next == 7 + depth
  batches.close()


@pytest.mark.parametrize("consumed", [0, 1, 4])
def test_batches_read_ahead_are_delivered_again_after_a_restart(consumed):
  batches = DevicePrefetch(Counter(), lambda number: number, depth=3)
  for _ in range(consumed):
    next(batches)
  state = json.loads(json.dumps(batches.get_state()))
  batches.close()
  source = Counter()
  source.set_state(state)
  restarted = DevicePrefetch(source, lambda number: number, depth=1)
  assert [next(restarted) for _ in range(3)] == [consumed, consumed + 1, consumed + 2]
  restarted.close()


def test_the_first_state_is_the_current_one_of_the_source():
  source = Counter()
  source.set_state({"next": 7})
  batches = DevicePrefetch(source, lambda number: number, depth=2)
  assert batches.get_state() == {"next": 7}
  assert next(batches) == 7
  batches.close()


def test_the_next_batch_is_transferred_without_a_request():
  placed = threading.Semaphore(0)

  def place(number):
    placed.release()
    return number

  batches = DevicePrefetch(Counter(), place, depth=1)
  next(batches)
  assert all(placed.acquire(timeout=10) for _ in range(2))
  batches.close()


@pytest.mark.parametrize("depth", [1, 3])
def test_the_iterator_stays_exhausted_after_the_last_batch(depth):
  batches = DevicePrefetch(Counter(stop=3), lambda number: number, depth=depth)
  assert list(batches) == [0, 1, 2]
  assert next(batches, "end") == "end"
  assert batches.get_state() == {"next": 3}
  batches.close()


def test_an_error_is_raised_where_the_batch_is_needed():
  def place(number):
    if number == 2:
      raise OSError("the disk has failed")
    return number

  batches = DevicePrefetch(Counter(), place, depth=4)
  assert [next(batches), next(batches)] == [0, 1]
  for _ in range(2):
    with pytest.raises(OSError, match="the disk has failed"):
      next(batches)
  assert batches.get_state() == {"next": 2}
  batches.close()


def test_closing_ends_the_thread_and_leaves_the_source_open():
  source = Counter()
  batches = DevicePrefetch(source, lambda number: number, depth=2)
  next(batches)
  batches.close()
  assert not [thread for thread in threading.enumerate() if thread.name.startswith("device-prefetch")]
  with pytest.raises(RuntimeError, match="shutdown"):
    next(batches)
  reached = source.next
  assert 1 <= reached <= 3
  time.sleep(0.05)
  assert next(source) == reached


def test_a_source_without_a_state_is_accepted():
  batches = DevicePrefetch(itertools.repeat(5), lambda number: number, depth=2)
  assert [next(batches), next(batches), batches.get_state()] == [5, 5, None]
  batches.close()


def test_arrays_are_on_the_devices():
  batches = DevicePrefetch(itertools.repeat({"label": np.arange(3)}), jax.device_put, depth=1)
  (label,) = next(batches).values()
  assert isinstance(label, jax.Array)
  assert label.tolist() == [0, 1, 2]
  batches.close()
