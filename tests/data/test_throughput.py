import itertools
import time

import numpy as np
import pytest

from vidgen_jax.data.throughput import measure_clips_per_second


def test_counts_clips_not_batches_and_leaves_the_warm_up_out():
  def batches():
    for number in itertools.count():
      # A slow start, as when threads are started: it must not count.
      time.sleep(0.2 if number < 2 else 0.005)
      yield {"label": np.zeros((2, 3), np.int32)}

  # 6 clips in 5 ms and a little: at most 1200 a second, and well above the 200 of a count of batches.
  assert 300 < measure_clips_per_second(batches(), seconds=0.2, warmup_batches=2) <= 1200


def test_a_finite_iterator_is_measured_to_its_end():
  # 3 batches are left after the warm-up.
  rate = measure_clips_per_second([{"label": np.zeros(4)}] * 5, seconds=60.0, warmup_batches=2)
  assert rate > 0


def test_nothing_to_measure():
  with pytest.raises(ValueError, match="warm-up"):
    measure_clips_per_second([{"label": np.zeros(4)}] * 2, seconds=1.0, warmup_batches=2)
  with pytest.raises(ValueError, match="seconds"):
    measure_clips_per_second([], seconds=0.0)
