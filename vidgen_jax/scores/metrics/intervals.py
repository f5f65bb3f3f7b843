"""95 % confidence intervals of scores over clips.

An interval covers the mean of the score over other draws of as many clips. The bias that a score of so few clips has is
not part of it: both have the same, and `extrapolated_frechet_distance` estimates it. It does not cover what another
training, or another seed of the network that is compared with, would change.

The variance of a set's statistic is V1 + V2 + ...: V1 of the sum of what each clip contributes, V2 of what pairs of
clips contribute in addition (Hoeffding). The jackknife estimates V1 + 2 V2 + 3 V3 + ... (Efron and Stein, The jackknife
estimate of variance, 1981), the bootstrap V1 + 3 V2 + ... Between sets of one distribution V1 is 0, so their intervals
would be 1.4 and 1.7 times too wide. The intervals here therefore subtract an estimate of V2.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

_LEVEL = 0.975
_SHARE = 0.125  # by simulation, see BUILD_NOTES.md


def mean_interval(values: np.ndarray) -> tuple[float, float] | None:
  """Student's t interval of a mean over scores [B] without NaN (no score); None for fewer than two scores."""
  known = values[~np.isnan(values)]
  if len(known) < 2:
    return None
  return t_interval(float(known.mean()), float(known.var(ddof=1)) / len(known), count=len(known))


def t_interval(value: float, variance: float, *, count: int) -> tuple[float, float]:
  """Student's t interval of a value with an estimated variance, with `count` - 1 degrees of freedom."""
  half = float(stdtrit(count - 1, _LEVEL)) * variance**0.5
  return value - half, value + half


def jackknife_variance(influences: Sequence[np.ndarray], pairs: float) -> float:
  """Variance of a statistic of one or several sets of clips.

  Args:
    influences: of each set the influence function at its clips, [N]: N times the change of the statistic by one clip.
    pairs: estimate of V2, the variance from pairs of clips; see the module.

  Returns:
    V1 + V2, at least an estimate of V2 for V1 = 0.
  """
  jackknife = sum(float(influence.var(ddof=1)) / len(influence) for influence in influences)
  # For V1 = 0 both half of the jackknife's estimate and `pairs` estimate V2. The first is small whenever the distance
  # is small: with few important features, its intervals alone would miss the mean too often.
  return max(jackknife - pairs, (1.0 - _SHARE) * jackknife / 2.0 + _SHARE * pairs)
