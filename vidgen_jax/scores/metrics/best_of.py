"""Best of l samples: what a stochastic predictor can do if it may try l times (protocol of SAVP, section 4.3).

For every clip and every metric on its own, the sample whose mean over the clip is best is kept. Samples are fed one at
a time, so that only scores are held, never l videos.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

_CURVE = "score"
"""What `BestOfCurve` calls its one metric."""


@dataclasses.dataclass(frozen=True)
class BestOf:
  """Scores over all samples seen."""

  best: dict[str, np.ndarray]
  """Per metric [B] or [B, T], as it was given: those of each clip's best sample."""
  mean: dict[str, np.ndarray]
  """Per metric, the mean over samples, the same shape; NaN scores are left out."""
  num_samples: int


class BestOfSamples:
  """Keeps the best scores of each clip while samples come in.

  Args:
    higher_is_better: the metrics and their direction: {"psnr": True, "centroid_error": False}.
  """

  def __init__(self, higher_is_better: Mapping[str, bool]):
    self._sign = {name: 1.0 if higher else -1.0 for name, higher in higher_is_better.items()}
    self._best: dict[str, np.ndarray] = {}
    self._sum: dict[str, np.ndarray] = {}
    self._count: dict[str, np.ndarray] = {}
    self._num_samples = 0

  def add(self, scores: Mapping[str, np.ndarray]) -> None:
    """Takes one sample's scores.

    Args:
      scores: for each metric [B] or [B, T], the same clips in the same order every time. NaN means "no score": such
        frames are left out of the clip's mean, and a sample with nothing else loses against every other.

    Raises:
      ValueError: if the metrics are not those of the constructor, or a shape changed between samples.
    """
    if set(scores) != set(self._sign):
      raise ValueError(f"expected scores for {sorted(self._sign)}, got {sorted(scores)}")
    for name, conditioning in scores.items():
      conditioning = np.asarray(conditioning, np.float64)
      if conditioning.ndim not in (1, 2):
        raise ValueError(f"scores of {name!r} must be [B] or [B, T], got shape {conditioning.shape}")
      known = np.isfinite(conditioning)
      if self._num_samples == 0:
        self._best[name], self._sum[name], self._count[name] = (
          conditioning,
          np.where(known, conditioning, 0.0),
          known.astype(int),
        )
        continue
      if conditioning.shape != self._best[name].shape:
        raise ValueError(f"scores of {name!r} changed shape: {self._best[name].shape}, then {conditioning.shape}")
      better = self._rank(name, conditioning) > self._rank(name, self._best[name])
      self._best[name] = np.where(better.reshape(-1, *[1] * (conditioning.ndim - 1)), conditioning, self._best[name])
      self._sum[name] = self._sum[name] + np.where(known, conditioning, 0.0)
      self._count[name] = self._count[name] + known
    self._num_samples += 1

  def result(self) -> BestOf:
    """What the samples so far amount to.

    Raises:
      ValueError: before the first sample.
    """
    if not self._num_samples:
      raise ValueError("no sample was added")
    mean = {
      name: np.where(self._count[name] > 0, self._sum[name] / np.maximum(self._count[name], 1), np.nan)
      for name in self._sign
    }
    return BestOf(best=dict(self._best), mean=mean, num_samples=self._num_samples)

  def _rank(self, name: str, scores: np.ndarray) -> np.ndarray:
    """Mean over the clip with its direction taken out: [B], larger is better, -inf without a score."""
    frames = scores.reshape(len(scores), -1)
    known = np.isfinite(frames)
    count = known.sum(axis=1)
    mean = np.where(known, frames, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, self._sign[name] * mean, -np.inf)


class BestOfCurve:
  """Best-of-l curves over the frames of a clip, for several l at once (TrIVD-GAN-FP, figure 5).

  Of the first l samples of a clip the one whose mean over the frames is best is chosen; its frames' scores are averaged
  over clips. One pass over the samples serves every l, and no more is held than the chosen scores of the last one.

  Args:
    counts: the l of which a curve is wanted, each at least 1.
    higher_is_better: the metric's direction.

  Raises:
    ValueError: if there is no count, or one below 1.
  """

  def __init__(self, counts: Sequence[int], *, higher_is_better: bool = True):
    if not counts or min(counts) < 1:
      raise ValueError(f"counts must be one or more numbers of samples from 1 on, got {counts=}")
    self._counts = frozenset(counts)
    self._kept = BestOfSamples({_CURVE: higher_is_better})
    self._best: dict[int, np.ndarray] = {}

  def add(self, scores: np.ndarray) -> None:
    """Takes the next sample's scores.

    Args:
      scores: [B, T], of each frame; the same clips in the same order every time. NaN as in `BestOfSamples.add`.

    Raises:
      ValueError: for another shape, or one that changed between samples.
    """
    if np.ndim(scores) != 2:
      raise ValueError(f"curves are made of scores [B, T], got shape {np.shape(scores)}")
    self._kept.add({_CURVE: scores})
    kept = self._kept.result()
    if kept.num_samples in self._counts:
      self._best[kept.num_samples] = _mean_over_clips(kept.best[_CURVE])

  @property
  def best(self) -> dict[int, np.ndarray]:
    """float64[T] by l, in ascending order, of those l that were reached; NaN where no clip has a score."""
    return dict(self._best)

  @property
  def mean(self) -> np.ndarray:
    """float64[T], the mean over samples and clips.

    Raises:
      ValueError: before the first sample.
    """
    return _mean_over_clips(self._kept.result().mean[_CURVE])


def curve_counts(samples: int) -> tuple[int, ...]:
  """The l whose curves are drawn for so many samples: 1, 2, 5, 10, 20, 50, ... and all of them.

  Args:
    samples: at least 1.

  Returns:
    Ascending; the last is `samples`.
  """
  series = (digit * 10**power for power in range(len(str(samples))) for digit in (1, 2, 5))
  return (*(count for count in series if count < samples), samples)


def best_of_samples(
  score_sample: Callable[[int], Mapping[str, np.ndarray]], num_samples: int, higher_is_better: Mapping[str, bool]
) -> BestOf:
  """Draws, scores and forgets one sample after another.

  Args:
    score_sample: from the sample's number, 0..num_samples - 1, to its scores; see `BestOfSamples.add`.
    num_samples: l.
    higher_is_better: the metrics and their direction.

  Returns:
    The best and the mean scores of each clip.

  Raises:
    ValueError: if `num_samples` < 1, or as `BestOfSamples.add` does.
  """
  if num_samples < 1:
    raise ValueError(f"num_samples must be at least 1, got {num_samples=}")
  kept = BestOfSamples(higher_is_better)
  for index in range(num_samples):
    kept.add(score_sample(index))
  return kept.result()


def _mean_over_clips(scores: np.ndarray) -> np.ndarray:
  """[B, T] -> [T]; NaN scores are left out."""
  known = np.isfinite(scores)
  count = known.sum(axis=0)
  return np.where(count > 0, np.where(known, scores, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
