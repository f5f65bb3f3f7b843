"""Timing of alternating calls, so that other load on the machine affects all of them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def alternating_medians(contestants: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
  """Median seconds of each call over `repeats` rounds, after one warm-up round."""
  times: dict[str, list[float]] = {name: [] for name in contestants}
  for repeat in range(repeats + 1):
    for name, run in contestants.items():
      start = time.perf_counter()
      jax.block_until_ready(run())
      if repeat:
        times[name].append(time.perf_counter() - start)
  return {name: float(np.median(values)) for name, values in times.items()}
