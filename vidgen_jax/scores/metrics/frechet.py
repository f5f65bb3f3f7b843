"""The Frechet distance between two sets of features, each taken for a normal distribution.

Heusel et al. 2017 (FID, eq. 6); Unterthiner et al. 2018 (FVD, eq. 2); MVT-GAN, eq. 8. What it is called, and which
numbers it may be compared with, depends on the features: see `vidgen_jax.scores.set_metrics`.
"""

import numpy as np

from vidgen_jax.scores.metrics.moments import Moments, moments_of


def frechet_distance(a: Moments, b: Moments, *, unbiased: bool = True) -> float:
  """|mean_a - mean_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^(1/2)), in float64.

  The trace of the root is that of the symmetric (S_a^(1/2) S_b S_a^(1/2))^(1/2), whose eigenvalues are real and not
  negative, so singular covariances (fewer clips than features) need no diagonal added to them.

  Args:
    a: moments of one set.
    b: moments of the other.
    unbiased: covariances with N - 1 (FVD's reference) or with N (StyleGAN's code).

  Returns:
    The squared distance, >= 0.

  Raises:
    ValueError: if the sets have different features, or too few for a covariance.
  """
  if a.mean.shape != b.mean.shape:
    raise ValueError(f"the sets have {a.mean.size} and {b.mean.size} features: they come from different networks")
  cov_a, cov_b = a.covariance(unbiased=unbiased), b.covariance(unbiased=unbiased)
  root = _symmetric_root(cov_a)
  product = root @ cov_b @ root
  eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
  trace_of_root = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
  offset = a.mean - b.mean
  distance = offset @ offset + np.trace(cov_a) + np.trace(cov_b) - 2.0 * trace_of_root
  return float(max(distance, 0.0))  # equal sets are at a rounding error's distance, of either sign


def frechet_distance_of(a: np.ndarray, b: np.ndarray, *, unbiased: bool = True) -> float:
  """As `frechet_distance`, of features [N, D] and [M, D]."""
  return frechet_distance(moments_of(a), moments_of(b), unbiased=unbiased)


def extrapolated_frechet_distance(
  a: np.ndarray, b: np.ndarray, *, unbiased: bool = True, num_sizes: int = 15, seed: int = 0
) -> float:
  """The distance for infinitely many clips, by the line of the distance over 1 / N (Chong and Forsyth 2020, sec. 4).

  Both sets are thinned in the same proportion, so the line carries the bias of both. It is straight only where there
  are more clips than features, so the smallest size is a fifth of the clips, or as many as there are features. The
  estimate scatters more than the distance itself and may fall below zero.

  Args:
    a: [N, D].
    b: [M, D].
    unbiased: see `frechet_distance`.
    num_sizes: numbers of clips that the line is fitted to, evenly spaced in 1 / N.
    seed: of the clips that are left out.

  Returns:
    The fitted line's value at 1 / N = 0.

  Raises:
    ValueError: if a set has fewer than twice as many clips as there are features.
  """
  fewest, num_features = min(len(a), len(b)), a.shape[1]
  if fewest < 2 * num_features or num_sizes < 2:
    raise ValueError(
      f"extrapolation needs {2 * num_features} clips or more for {num_features} features, got {len(a)} and {len(b)}"
    )
  shares = 1.0 / np.linspace(1.0 / max(0.2, num_features / fewest), 1.0, num_sizes)
  generator = np.random.default_rng(seed)
  inverse, distances = [], []
  for share in shares:
    count_a, count_b = round(share * len(a)), round(share * len(b))
    part_a = a[generator.permutation(len(a))[:count_a]]
    part_b = b[generator.permutation(len(b))[:count_b]]
    inverse.append(1.0 / count_a + 1.0 / count_b)
    distances.append(frechet_distance_of(part_a, part_b, unbiased=unbiased))
  _, intercept = np.polyfit(inverse, distances, 1)
  return float(intercept)


def in_common_span(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The same two sets in fewer coordinates, where there are fewer vectors than features.

  All of them lie in a space of N + M dimensions, in whose own coordinates every distance and covariance is unchanged,
  so that a bootstrap over few clips of a wide network takes seconds instead of hours.

  Args:
    a: [N, D].
    b: [M, D].

  Returns:
    [N, R] and [M, R] with R = min(D, N + M), float64.
  """
  both = np.concatenate([a, b]).astype(np.float64)
  if both.shape[0] >= both.shape[1]:
    return both[: len(a)], both[len(a) :]
  basis, _ = np.linalg.qr(both.T)
  turned = both @ basis
  return turned[: len(a)], turned[len(a) :]


def _symmetric_root(matrix: np.ndarray) -> np.ndarray:
  values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
  return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
