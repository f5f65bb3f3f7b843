"""Precision, recall, density and coverage: which part of one set lies in the manifold of another, from features.

The manifold of a set is the union of balls around its vectors, each as large as the distance to the k-th nearest other
vector of the set. All functions take the real set [N, D] and the generated one [M, D], finite, and raise a ValueError
unless both have more than k vectors. A distance equal to a radius is outside, as in the code of Naeem et al.
"""

import functools
from collections.abc import Iterator

import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need

_ROWS = 512  # rows of the matrix of distances at a time, which bounds the memory


def precision(real: np.ndarray, generated: np.ndarray, *, k: int = 3) -> float:
  """Fraction of the generated vectors in the manifold of the real ones, in [0, 1] (Kynkaanniemi et al., section 2)."""
  return float(np.mean(_balls_around(generated, real, k) > 0))


def recall(real: np.ndarray, generated: np.ndarray, *, k: int = 3) -> float:
  """Fraction of the real vectors in the manifold of the generated ones, in [0, 1] (Kynkaanniemi et al., section 2)."""
  return precision(generated, real, k=k)


def density(real: np.ndarray, generated: np.ndarray, *, k: int = 5) -> float:
  """Mean number of real balls around a generated vector, divided by k; may exceed 1 (Naeem et al., section 3)."""
  return float(np.mean(_balls_around(generated, real, k)) / k)


def coverage(real: np.ndarray, generated: np.ndarray, *, k: int = 5) -> float:
  """Fraction of the real balls that contain a generated vector, in [0, 1] (Naeem et al., section 3)."""
  radii = _square_radii(real, k)
  nearest = np.concatenate([block.min(axis=1) for _, block in _square_distances(real, generated)])
  return float(np.mean(nearest < radii))


def _balls_around(vectors: np.ndarray, centres: np.ndarray, k: int) -> np.ndarray:
  """For each of the vectors [N, D], the number of balls around the `centres` [M, D] that contain it: int[N]."""
  radii = _square_radii(centres, k)
  return np.concatenate([(block < radii).sum(axis=1) for _, block in _square_distances(vectors, centres)])


def _square_radii(x: np.ndarray, k: int) -> np.ndarray:
  """Squared distance of each vector of [N, D] to its k-th nearest other one: [N]."""
  if not 1 <= k < len(x):
    raise ValueError(f"{len(x)} clips are too few for the {k} nearest neighbours of each; lower --nearest_k")
  radii = []
  for start, block in _square_distances(x, x):
    np.fill_diagonal(block[:, start:], np.inf)  # No vector is its own neighbour.
    radii.append(np.partition(block, k - 1, axis=1)[:, k - 1])
  return np.concatenate(radii)


def _square_distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
  """Squared distances [rows, M] between rows of [N, D] and all of [M, D], with the index of the first row."""
  a, b = (np.asarray(x, np.float64) for x in (a, b))
  squares = np.square(b).sum(axis=1)
  for start in range(0, len(a), _ROWS):
    part = a[start : start + _ROWS]
    yield start, np.maximum(np.square(part).sum(axis=1)[:, None] + squares - 2 * part @ b.T, 0.0)


_metric = functools.partial(
  Metric,
  protocol="{k} nearest neighbours",
  higher_is_better=True,
  kind=Kind.SET,
  needs=(Need.REAL_SET, Need.FEATURES),
  enabled_by="nearest_k",
)
_MANIFOLDS = "Kynkaanniemi et al., arXiv:1904.06991, section 2 (k = 3)"
_RELIABLE = "Naeem et al., arXiv:2002.09797, section 3 (k = 5)"

METRICS = (
  _metric(
    name="precision",
    description="fraction of the generated clips that look like real ones to the network: that lie in the manifold of "
    "the real features (--nearest_k). A single copied clip scores 1, so read it together with recall",
    source=_MANIFOLDS,
    function=precision,
  ),
  _metric(
    name="recall",
    description="fraction of the real clips that lie in the manifold of the generated features (--nearest_k); outliers "
    "among the generated clips raise it",
    source=_MANIFOLDS,
    function=recall,
  ),
  _metric(
    name="density",
    description="like precision, counting in how many real neighbourhoods a generated clip lies (--nearest_k); less "
    "sensitive to outliers, and near 1 for clips of the real distribution",
    source=_RELIABLE,
    function=density,
  ),
  _metric(
    name="coverage",
    description="fraction of the real clips with a generated one in their neighbourhood (--nearest_k)",
    source=_RELIABLE,
    function=coverage,
  ),
)
