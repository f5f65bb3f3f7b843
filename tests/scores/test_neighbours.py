"""Nearest neighbours against a loop and known distances."""

import numpy as np
import pytest

from vidgen_jax.scores import neighbours
from vidgen_jax.scores.neighbours import nearest


def _features():
  rng = np.random.default_rng(0)
  return rng.normal(size=(11, 4)), rng.normal(size=(7, 4))


@pytest.mark.parametrize("rows", [3, 256])
def test_equals_a_loop(rows, monkeypatch):
  monkeypatch.setattr(neighbours, "_ROWS", rows)
  queries, candidates = _features()
  indices, distances = nearest(queries, candidates, k=3)
  for i, query in enumerate(queries):
    expected = [np.sqrt(np.sum((query - candidate) ** 2)) for candidate in candidates]
    order = sorted(range(7), key=expected.__getitem__)[:3]
    assert indices[i].tolist() == order
    np.testing.assert_allclose(distances[i], [expected[j] for j in order])


def test_skip_self_excludes_the_query(monkeypatch):
  monkeypatch.setattr(neighbours, "_ROWS", 3)
  points = np.array([[0.0], [1.0], [1.5], [9.0], [9.25]])
  indices, distances = nearest(points, points, k=1, skip_self=True)
  assert indices[:, 0].tolist() == [1, 2, 1, 4, 3]
  np.testing.assert_allclose(distances[:, 0], [1, 0.5, 0.5, 0.25, 0.25])


def test_a_copy_far_from_the_origin_has_distance_zero():
  points = 1e6 + np.random.default_rng(0).normal(size=(5, 3))
  np.testing.assert_array_equal(nearest(points, points, k=1)[1], np.zeros((5, 1)))


@pytest.mark.parametrize(("k", "skip_self"), [(8, False), (7, True), (0, False)])
def test_too_many_neighbours_raise(k, skip_self):
  _, candidates = _features()
  with pytest.raises(ValueError, match=f"cannot find {k} neighbours"):
    nearest(candidates, candidates, k=k, skip_self=skip_self)
