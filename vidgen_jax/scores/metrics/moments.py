"""Mean and covariance of features that come in batches: nothing but the moments is held."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
  """Moments of `count` feature vectors, in float64. Immutable: every operation returns new ones."""

  count: int
  mean: np.ndarray
  """[D]."""
  scatter: np.ndarray
  """[D, D], the sum of (x - mean)(x - mean)^T."""

  def covariance(self, *, unbiased: bool = True) -> np.ndarray:
    """The covariance [D, D]: divided by count - 1, or by count.

    Raises:
      ValueError: if an unbiased one is asked of fewer than two vectors.
    """
    divisor = self.count - 1 if unbiased else self.count
    if divisor < 1:
      raise ValueError(f"a covariance needs at least {1 + unbiased} feature vector(s), got {self.count}")
    return self.scatter / divisor

  def __add__(self, other: "Moments") -> "Moments":
    """The moments of both sets together (Chan, Golub and LeVeque 1979), whatever their order."""
    count = self.count + other.count
    if not count:
      return self
    offset = other.mean - self.mean
    mean = self.mean + offset * (other.count / count)
    scatter = self.scatter + other.scatter + np.outer(offset, offset) * (self.count * other.count / count)
    return Moments(count, mean, scatter)


def no_moments(num_features: int) -> Moments:
  """The moments of no vector at all, to add others to."""
  return Moments(0, np.zeros(num_features), np.zeros((num_features, num_features)))


def moments_of(features: np.ndarray) -> Moments:
  """The moments of some feature vectors.

  Args:
    features: [N, D], finite.

  Raises:
    ValueError: if they are not [N, D] or not finite.
  """
  features = np.asarray(features, np.float64)
  if features.ndim != 2:
    raise ValueError(f"features must be [N, D], got shape {features.shape}")
  if not np.isfinite(features).all():
    raise ValueError(f"{int((~np.isfinite(features)).any(axis=1).sum())} of {len(features)} features are not finite")
  if not len(features):
    return no_moments(features.shape[1])
  mean = features.mean(axis=0)
  centred = features - mean
  return Moments(len(features), mean, centred.T @ centred)
