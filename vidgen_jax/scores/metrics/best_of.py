"""Best of l samples, the protocol for stochastic predictors (SAVP, section 4.3).

For each clip and each metric separately, the sample with the best mean over the clip is kept. Samples are added one at
a time, so that memory holds scores of all samples but never l videos.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

_CURVE = "score"


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
    self._best: dict[str, np.ndarray] = {}
    self._sum: dict[str, np.ndarray] = {}
    self._count: dict[str, np.ndarray] = {}
    self._num_samples = 0

  def add(self, scores: Mapping[str, np.ndarray]) -> None:
    """Adds the scores of one sample: [B] or [B, T] by metric, always the same clips in the same order.

    NaN means "no score": it is left out of the clip's mean, and a sample without any score loses against all others.

    Raises:
      ValueError: if the metrics are not those of the constructor, or a shape changed between samples.
    """
    if set(scores) != set(self._sign):
      raise ValueError(f"expected scores for {sorted(self._sign)}, got {sorted(scores)}")
    for name, values in scores.items():
      values = np.asarray(values, np.float64)
      if values.ndim not in (1, 2):
        raise ValueError(f"scores of {name!r} must be [B] or [B, T], got shape {values.shape}")
      known = np.isfinite(values)
      if self._num_samples == 0:
        self._best[name], self._sum[name], self._count[name] = values, np.where(known, values, 0.0), known.astype(int)
        continue
      if values.shape != self._best[name].shape:
        raise ValueError(f"scores of {name!r} changed shape: {self._best[name].shape}, then {values.shape}")
      better = self._rank(name, values) > self._rank(name, self._best[name])
      self._best[name] = np.where(better.reshape(-1, *[1] * (values.ndim - 1)), values, self._best[name])
      self._sum[name] = self._sum[name] + np.where(known, values, 0.0)
      self._count[name] = self._count[name] + known
    self._num_samples += 1

  def result(self) -> BestOf:
    """Best and mean scores of the samples so far; ValueError before the first."""
    if not self._num_samples:
      raise ValueError("no sample was added")
    mean = {name: _mean_of_counted(self._sum[name], self._count[name]) for name in self._sign}
    return BestOf(best=dict(self._best), mean=mean, num_samples=self._num_samples)

  def _rank(self, name: str, scores: np.ndarray) -> np.ndarray:
    """Mean over the clip, negated if lower is better: [B], larger is better, -inf without a score."""
    frames = scores.reshape(len(scores), -1)
    known = np.isfinite(frames)
    count = known.sum(axis=1)
    mean = np.where(known, frames, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, self._sign[name] * mean, -np.inf)


class BestOfCurve:
  """Best-of-l curves over the frames of a clip, for several l in one pass over the samples (TrIVD-GAN-FP, figure 5).

  For each l, the sample with the best mean over the frames is selected from the first l samples of a clip; the curve is
  the mean of its frames' scores over clips. `counts` are the values of l, each at least 1.
  """

  def __init__(self, counts: Sequence[int]):
    self._counts = frozenset(counts)
    self._kept = BestOfSamples({_CURVE: True})
    self._best: dict[int, np.ndarray] = {}

  def add(self, scores: np.ndarray) -> None:
    """Adds the scores [B, T] of the next sample, of which higher ones are better; see `BestOfSamples.add`."""
    self._kept.add({_CURVE: scores})
    kept = self._kept.result()
    if kept.num_samples in self._counts:
      self._best[kept.num_samples] = _mean_over_clips(kept.best[_CURVE])

  @property
  def best(self) -> dict[int, np.ndarray]:
    """float64[T] by l, ascending, for each l reached so far; NaN where no clip has a score."""
    return dict(self._best)

  @property
  def mean(self) -> np.ndarray:
    """float64[T], the mean over samples and clips; ValueError before the first sample."""
    return _mean_over_clips(self._kept.result().mean[_CURVE])


def curve_counts(samples: int) -> tuple[int, ...]:
  """The numbers of samples that get a curve: 1, 2, 5, 10, 20, 50, ... below `samples`, and `samples` (at least 1)."""
  series = (digit * 10**power for power in range(len(str(samples))) for digit in (1, 2, 5))
  return (*(count for count in series if count < samples), samples)


def _mean_over_clips(scores: np.ndarray) -> np.ndarray:
  """Mean over clips without NaN: [B, T] -> [T]."""
  known = np.isfinite(scores)
  return _mean_of_counted(np.where(known, scores, 0.0).sum(axis=0), known.sum(axis=0))


def _mean_of_counted(total: np.ndarray, count: np.ndarray) -> np.ndarray:
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)
