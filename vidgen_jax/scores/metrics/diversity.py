"""Diversity of the samples of one condition, from features or from pixels."""

import dataclasses

import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need


def pairwise_cosine_distance(features: np.ndarray) -> np.ndarray:
  """Mean of 1 - cos(f_i, f_j) over the pairs i < j of the samples of each condition.

  Args:
    features: [N, l, D]: l >= 2 samples of each of N conditions; ValueError if one is zero.

  Returns:
    float64[N] in [0, 2]; 0 for equal directions.
  """
  features = np.asarray(features, np.float64)
  norms = np.linalg.norm(features, axis=-1, keepdims=True)
  if not (norms > 0).all():
    raise ValueError("diversity needs features that are not zero; the weights are damaged or do not fit the clips")
  count = features.shape[1]
  # The sum of the cosines of all pairs, i = j included, is the squared length of the sum of the unit vectors.
  cosines = np.square((features / norms).sum(axis=1)).sum(axis=-1)
  return 1.0 - (cosines - count) / (count * (count - 1))


class RunningSpread:
  """Mean and standard deviation of arrays that arrive one by one (Welford's recurrence)."""

  def __init__(self) -> None:
    self.count = 0
    self._mean = self._squares = np.zeros(())

  def add(self, values: np.ndarray) -> None:
    """Adds an array of the same shape as the others."""
    self.count += 1
    off = values - self._mean
    self._mean = self._mean + off / self.count
    self._squares = self._squares + off * (values - self._mean)

  def result(self) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of the arrays so far, at least one: float64."""
    return self._mean, np.sqrt(self._squares / self.count)


class PixelDiversity:
  """`pairwise_cosine_distance` with the pixels in [-1, 1] as features, one sample in memory at a time.

  A shift by a few pixels counts as much as different content, so it compares samplers of one model, not models.
  """

  def __init__(self) -> None:
    self._spread = RunningSpread()

  def add(self, videos: np.ndarray) -> None:
    """Adds one sample of each clip, uint8[N, ...]."""
    # 127.5 is no uint8 value, so no vector is zero.
    vectors = videos.reshape(len(videos), -1) / 127.5 - 1.0
    self._spread.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

  def result(self) -> np.ndarray:
    """float64[N] in [0, 2], 0 for equal samples; needs at least two samples."""
    # For unit vectors, the mean of 1 - cos over the pairs is the unbiased variance, summed over dimensions.
    _, deviation = self._spread.result()
    return np.square(deviation).sum(axis=1) * self._spread.count / (self._spread.count - 1)


_DIVERSITY = Metric(
  name="diversity",
  description="mean cosine distance between the features of two samples of one condition, in [0, 2]; noise is diverse "
  "too, so read it together with a distance to the real set",
  source="Inbetweening, section 4.2; Lee et al., arXiv:1804.01523",
  protocol="mean pairwise cosine distance of {samples} samples of one condition",
  function=pairwise_cosine_distance,
  higher_is_better=True,
  kind=Kind.SET,
  needs=(Need.FEATURES, Need.SAMPLES),
)

METRICS = (
  _DIVERSITY,
  dataclasses.replace(
    _DIVERSITY,
    name="diversity_of_logits",
    reported_as="diversity",
    description="diversity on the logits of I3D, as FVD",
    needs=(Need.LOGITS, Need.SAMPLES),
    networks=("i3d",),
  ),
)
