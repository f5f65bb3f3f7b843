"""Best of l samples, the protocol for stochastic predictors (SAVP, section 4.3).

For each clip and each metric separately, the sample with the best mean over the clip is kept. Samples are added one at
a time, so that memory holds scores of all samples but never l videos.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class BestOf:
  """Scores of each clip over all samples."""

  best: dict[str, np.ndarray]
  """By metric [B] or [B, T], as in the samples: scores of each clip's best sample."""
  mean: dict[str, np.ndarray]
  """By metric, the mean over samples without NaN, same shape."""
  num_samples: int


class BestOfSamples:
  """Keeps the best scores of each clip while samples are added.

  The argument is the direction by metric: {"psnr": True, "centroid_error": False}.
  """

  def __init__(self, higher_is_better: Mapping[str, bool]):
    self._sign = {name: 1.0 if higher else -1.0 for name, higher in higher_is_better.items()}
    # By metric: the best scores, the sum of the known scores, their number.
    self._kept: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    self._num_samples = 0

  def add(self, scores: Mapping[str, np.ndarray]) -> None:
    """Adds the scores of one sample: [B] or [B, T] by metric, always the same clips in the same order.

    NaN means "no score": it is left out of the clip's mean, and a sample without any score loses against all others.
    Other metrics than those of the constructor are ignored.
    """
    for name, sign in self._sign.items():
      values = np.asarray(scores[name], np.float64)
      known = np.isfinite(values)
      best, total, count = self._kept.get(name, (values, 0.0, 0))
      better = _rank(values, sign) > _rank(best, sign)
      best = np.where(better.reshape(-1, *[1] * (values.ndim - 1)), values, best)
      self._kept[name] = best, total + np.where(known, values, 0.0), count + known
    self._num_samples += 1

  def result(self) -> BestOf:
    """Best and mean scores of the samples so far, at least one."""
    mean = {name: _mean_of_counted(total, count) for name, (_, total, count) in self._kept.items()}
    return BestOf(
      best={name: best for name, (best, _, _) in self._kept.items()}, mean=mean, num_samples=self._num_samples
    )


def curve_counts(samples: int) -> tuple[int, ...]:
  """The numbers of samples that get a curve: 1, 2, 5, 10, 20, 50, ... below `samples`, and `samples` (at least 1)."""
  series = (digit * 10**power for power in range(len(str(samples))) for digit in (1, 2, 5))
  return (*(count for count in series if count < samples), samples)


def mean_over_clips(scores: np.ndarray) -> np.ndarray:
  """The mean over clips without NaN: [B, T] -> [T]; NaN where no clip has a score."""
  known = np.isfinite(scores)
  return _mean_of_counted(np.where(known, scores, 0.0).sum(axis=0), known.sum(axis=0))


def _rank(scores: np.ndarray, sign: float) -> np.ndarray:
  """Mean over the clip times the sign: [B], larger is better, -inf without a score."""
  frames = scores.reshape(len(scores), -1)
  known = np.isfinite(frames)
  count = known.sum(axis=1)
  mean = np.where(known, frames, 0.0).sum(axis=1) / np.maximum(count, 1)
  return np.where(count > 0, sign * mean, -np.inf)


def _mean_of_counted(total: np.ndarray, count: np.ndarray) -> np.ndarray:
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)
