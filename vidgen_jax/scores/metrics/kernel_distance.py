"""The kernel distance between two sets of features: squared maximum mean discrepancy with a cubic kernel.

Binkowski et al. 2018 (KID, sec. 4.1); Unterthiner et al. 2018 call it KVD on I3D's logits. Unlike the Frechet distance
its estimate has no bias, so small sets may be compared with large ones; it may fall below zero.
"""

import numpy as np

from vidgen_jax.scores.metrics.moments import moments_of

_ROWS = 512
"""Rows of the kernel matrix at a time: memory does not grow with the square of the number of clips."""


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
  """The unbiased estimate of MMD^2 with k(x, y) = (x . y / D + 1)^3, over all pairs.

  Args:
    a: [N, D], N >= 2, finite.
    b: [M, D], M >= 2, finite.

  Returns:
    E k(a, a') + E k(b, b') - 2 E k(a, b), a vector never being paired with itself.

  Raises:
    ValueError: if the shapes do not fit, a set has fewer than two vectors, or one is not finite.
  """
  count_a, count_b = moments_of(a).count, moments_of(b).count
  if a.shape[1] != b.shape[1] or min(count_a, count_b) < 2:
    raise ValueError(f"the kernel distance needs two vectors or more of equal length, got {a.shape} and {b.shape}")
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  within_a = _kernel_sum(a, a) - _kernel_of_self(a).sum()
  within_b = _kernel_sum(b, b) - _kernel_of_self(b).sum()
  across = _kernel_sum(a, b)
  return float(
    within_a / (count_a * (count_a - 1)) + within_b / (count_b * (count_b - 1)) - 2.0 * across / (count_a * count_b)
  )


def _kernel(products: np.ndarray, num_features: int) -> np.ndarray:
  return (products / num_features + 1.0) ** 3


def _kernel_of_self(x: np.ndarray) -> np.ndarray:
  return _kernel(np.square(x).sum(axis=1), x.shape[1])


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
  return sum(_kernel(x[i : i + _ROWS] @ y.T, x.shape[1]).sum() for i in range(0, len(x), _ROWS))
