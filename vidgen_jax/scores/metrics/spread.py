"""How much samples of one condition vary: mean and standard deviation, one sample in memory at a time."""

from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
  """How arrays of one shape vary."""

  mean: np.ndarray
  """float64 of their shape."""
  deviation: np.ndarray
  """float64 of their shape: the standard deviation of the arrays themselves (divided by their number)."""


class RunningSpread:
  """Mean and standard deviation of arrays that come one after the other (Welford's recurrence)."""

  def __init__(self) -> None:
    self._count = 0
    self._mean = self._squares = np.zeros(())

  def add(self, values: np.ndarray) -> None:
    """Takes the next array.

    Args:
      values: numbers of any shape, the same every time.

    Raises:
      ValueError: if the shape changed.
    """
    if self._count and values.shape != self._mean.shape:
      raise ValueError(f"values changed shape: {self._mean.shape}, then {values.shape}")
    self._count += 1
    off = values - self._mean
    self._mean = self._mean + off / self._count
    self._squares = self._squares + off * (values - self._mean)

  def result(self) -> Spread:
    """What the arrays so far amount to.

    Raises:
      ValueError: before the first array.
    """
    if not self._count:
      raise ValueError("no array was added")
    return Spread(self._mean, np.sqrt(self._squares / self._count))


class PixelDiversity:
  """Mean pairwise cosine distance of the samples of each clip, one sample in memory at a time.

  It is that of `vidgen_jax.scores.metrics.diversity.pairwise_cosine_distance` where the pixels themselves, in [-1, 1], are the
  features: for unit vectors, the mean of 1 - cos over the pairs is their unbiased variance, added up over dimensions.
  No network is needed, but a shift of a few pixels counts as much as another content: it compares samplers of one
  model, not models.
  """

  def __init__(self) -> None:
    self._count = 0
    self._spread = RunningSpread()

  def add(self, videos: np.ndarray) -> None:
    """Takes the next sample of each clip.

    Args:
      videos: uint8[N, ...], the same shape every time.

    Raises:
      TypeError: if `videos` is not uint8.
      ValueError: if the shape changed.
    """
    if videos.dtype != np.uint8:
      raise TypeError(f"PixelDiversity needs uint8 video, got {videos.dtype}")
    # No uint8 is in the middle of the range, so no vector is zero.
    vectors = videos.reshape(len(videos), -1) / 127.5 - 1.0
    self._spread.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    self._count += 1

  def result(self) -> np.ndarray:
    """float64[N], in [0, 2]; 0 for equal samples.

    Raises:
      ValueError: before the second sample.
    """
    if self._count < 2:
      raise ValueError(f"diversity needs at least two samples, got {self._count}")
    variance = np.square(self._spread.result().deviation).sum(axis=1)
    return variance * self._count / (self._count - 1)
