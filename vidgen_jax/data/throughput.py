"""How many clips a second the pipeline delivers by itself."""

import time
from collections.abc import Iterator, Mapping

import numpy as np


def measure_clips_per_second(
  iterator: Iterator[Mapping[str, np.ndarray]], *, seconds: float = 3.0, warmup_batches: int = 2
) -> float:
  """Drains an iterator for a while and counts clips.

  The first batches are not counted: they start threads and fill buffers. What was buffered when the clock started is
  counted, so `seconds` should be many times the duration of a batch.

  Args:
    iterator: yields batches with 'label' of any shape, one entry a clip.
    seconds: how long to measure, at least.
    warmup_batches: batches to throw away first, >= 1.

  Returns:
    Clips per second, of this process.

  Raises:
    ValueError: if the iterator ends before a batch could be counted, or an argument is out of range.
  """
  if seconds <= 0 or warmup_batches < 1:
    raise ValueError(f"throughput needs seconds > 0 and warmup_batches >= 1, got {seconds=}, {warmup_batches=}")
  batches = iter(iterator)
  for _ in range(warmup_batches):
    next(batches, None)
  clips, elapsed, start = 0, 0.0, time.perf_counter()
  while elapsed < seconds and (batch := next(batches, None)) is not None:
    clips += np.asarray(batch["label"]).size
    elapsed = time.perf_counter() - start
  if not clips:
    raise ValueError("the iterator ended during the warm-up; measure on an endless one, such as train_batches")
  return clips / elapsed
