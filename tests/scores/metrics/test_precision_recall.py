"""Precision, recall, density and coverage by hand and against the whole matrix of distances."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics import precision_recall
from vidgen_jax.scores.metrics.precision_recall import coverage, density, precision, recall


def test_by_hand():
  # Real 0, 1, 3: radii 1, 1, 2. Generated 0.5, 10: radii 9.5. The vector 0.5 is in the balls around 0 and 1 only.
  real, generated = np.array([[0.0], [1], [3]]), np.array([[0.5], [10]])
  assert precision(real, generated, k=1) == 1 / 2
  assert recall(real, generated, k=1) == 1  # |3 - 0.5| < 9.5
  assert density(real, generated, k=1) == 2 / 2
  assert coverage(real, generated, k=1) == 2 / 3


def test_a_distance_equal_to_the_radius_is_outside():
  real, generated = np.array([[0.0], [1], [5]]), np.array([[2.0], [2]])
  assert precision(real, generated, k=1) == 1.0  # |2 - 5| < 4
  assert coverage(real, generated, k=1) == 1 / 3  # |2 - 1| is the radius of 1


def _from_whole_matrix(real, generated, k):
  """The definitions, with distances from differences and sorted whole."""
  distance = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=-1)
  real_radii, radii = (np.sort(distance(x, x), axis=1)[:, k] for x in (real, generated))
  inside = distance(real, generated) < real_radii[:, None]
  return {
    precision: inside.any(axis=0).mean(),
    recall: (distance(real, generated) < radii[None]).any(axis=1).mean(),
    density: inside.sum(axis=0).mean() / k,
    coverage: (distance(real, generated).min(axis=1) < real_radii).mean(),
  }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_against_the_whole_matrix_of_distances(monkeypatch, k):
  monkeypatch.setattr(precision_recall, "_ROWS", 7)
  generator = np.random.default_rng(k)
  real, generated = generator.normal(size=(40, 6)), generator.normal(1.0, 1.2, size=(30, 6))
  for metric, expected in _from_whole_matrix(real, generated, k).items():
    assert metric(real, generated, k=k) == pytest.approx(expected, rel=1e-12)
    assert 0 < expected < 1 or metric is density


def test_too_few_vectors():
  with pytest.raises(ValueError, match="3 clips are too few for the 3 nearest neighbours"):
    precision(np.eye(3), np.eye(3), k=3)
