"""How different the samples of one condition are from each other (Inbetweening, sec. 4.3; Lee et al. 2018)."""

import numpy as np


def pairwise_cosine_distance(features: np.ndarray) -> np.ndarray:
  """Mean of 1 - cos(f_i, f_j) over the pairs i < j of each condition's samples.

  Args:
    features: [N, l, D]: l >= 2 samples of each of N conditions; finite, no vector zero.

  Returns:
    float64[N], in [0, 2]; 0 for equal directions.

  Raises:
    ValueError: for other shapes, fewer than two samples, or vectors that have no direction.
  """
  features = np.asarray(features, np.float64)
  if features.ndim != 3 or features.shape[1] < 2:
    raise ValueError(f"diversity needs [N, l, D] with at least two samples, got shape {features.shape}")
  norms = np.linalg.norm(features, axis=-1, keepdims=True)
  if not (np.isfinite(norms).all() and (norms > 0).all()):
    raise ValueError("diversity needs finite features that are not zero")
  units = features / norms
  count = features.shape[1]
  # The sum of all pairs' cosines, i = j included, is the squared length of the sum of the unit vectors.
  cosines = np.square(units.sum(axis=1)).sum(axis=-1)
  return 1.0 - (cosines - count) / (count * (count - 1))
