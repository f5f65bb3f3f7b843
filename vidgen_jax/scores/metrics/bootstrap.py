"""95 % confidence intervals from resampled clips (bootstrap, Efron 1979)."""

import math
from collections.abc import Callable, Sequence

import numpy as np

_PERCENTILES = (2.5, 97.5)


def mean_interval(values: np.ndarray, *, num_resamples: int = 1000, seed: int = 0) -> tuple[float, float] | None:
  """The interval of a mean over the scores [B] of clips, without NaN (no score); None for fewer than two scores."""
  known = values[~np.isnan(values)]
  if len(known) < 2:
    return None
  generator, count = np.random.default_rng(seed), len(known)
  means = [known[generator.integers(count, size=count)].mean() for _ in range(num_resamples)]
  low, high = np.percentile(means, _PERCENTILES)
  return float(low), float(high)


def statistic_interval(
  statistic: Callable[..., float],
  value: float,
  samples: Sequence[np.ndarray],
  *,
  at_least: float = -math.inf,
  num_resamples: int = 200,
  seed: int = 0,
) -> tuple[float, float] | None:
  """The interval of a statistic of whole sets, such as a distance between two of them.

  Args:
    statistic: function of the sets, as positional arguments.
    value: `statistic(*samples)`.
    samples: sets [N, ...] of independent clips, resampled independently.
    at_least: lower bound of the statistic and of the interval.
    num_resamples: number of resamples; 0 for no interval.
    seed: seed of the resamples.

  Returns:
    (low, high) around `value`; None without resamples or if a set has fewer than two clips.
  """
  if not num_resamples or min(map(len, samples)) < 2:
    return None
  generator = np.random.default_rng(seed)
  draws = [
    statistic(*(sample[generator.integers(len(sample), size=len(sample))] for sample in samples))
    for _ in range(num_resamples)
  ]
  # A resampled set repeats clips and is farther from any other set, so all draws of a distance exceed its value. The
  # draws show the variation only: their percentiles are shifted to be centred at the value.
  low, high = np.percentile(draws, _PERCENTILES) + (value - np.mean(draws))
  return max(float(low), at_least), float(high)
