"""Frechet and kernel distance against scipy, loops and values by hand."""

import numpy as np
import pytest
import scipy.linalg

from vidgen_jax.scores.metrics import set_distance
from vidgen_jax.scores.metrics.set_distance import extrapolated_frechet_distance, frechet_distance, kernel_distance


def by_scipy(a, b, *, bias=False):
  """The formula as published, with the principal root of the product of both covariances."""
  cov_a, cov_b = np.cov(a.T, bias=bias), np.cov(b.T, bias=bias)
  root = np.real(scipy.linalg.sqrtm(cov_a @ cov_b))
  return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)


def correlated(seed, count, size, *, scale=1.0):
  generator = np.random.default_rng(seed)
  return generator.normal(size=(count, size)) @ generator.normal(size=(size, size)) * scale + generator.normal(
    size=size
  )


@pytest.mark.parametrize("unbiased", [True, False])
def test_frechet_distance_equals_scipy(unbiased):
  a, b = correlated(0, 300, 24), correlated(1, 200, 24, scale=1.7)
  expected = by_scipy(a, b, bias=not unbiased)
  assert frechet_distance(a, b, unbiased=unbiased) == pytest.approx(expected, rel=1e-6)
  assert frechet_distance(b, a, unbiased=unbiased) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
  ("interval", "count"), [(set_distance.frechet_interval, 200), (set_distance.kernel_interval, 60)]
)
def test_pairs_of_clips_are_half_of_the_jackknife_between_equal_distributions(interval, count, monkeypatch):
  # There is no first-order part, and the jackknife counts the second-order part twice.
  found = []

  def record(influences, pairs):
    found.append((pairs, sum(one.var(ddof=1) / len(one) for one in influences)))
    return 1.0

  monkeypatch.setattr(set_distance, "jackknife_variance", record)
  generator = np.random.default_rng(0)
  for _ in range(200):
    interval(1.0, generator.normal(size=(2 * count, 3)), generator.normal(size=(count, 3)))
  pairs, jackknife = np.mean(found, axis=0)
  assert pairs / jackknife == pytest.approx(0.5, abs=0.06)


def test_frechet_distance_in_one_dimension_by_hand():
  # Variances 4 and 9 (ddof 1: +-2/sqrt2 around 0, +-3/sqrt2 around 1), means 0 and 1: 1 + 4 + 9 - 2 sqrt(36) = 2.
  a = np.array([[-1.0], [1.0]]) * np.sqrt(2)
  b = np.array([[-1.0], [1.0]]) * 3 / np.sqrt(2) + 1
  assert frechet_distance(a, b) == pytest.approx(2.0, rel=1e-12)


def test_frechet_distance_with_singular_covariances():
  # Fewer vectors than features, and constant features. Diagonal case by hand: variances (1, 4, 0) and (9, 0, 0):
  # trace 14 - 2 sqrt(1 * 9) = 8.
  a = np.array([[1, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0]]) * np.sqrt(1.5)
  b = np.array([[3.0, 0, 0], [-3, 0, 0]]) / np.sqrt(2)
  assert frechet_distance(a, b) == pytest.approx(8.0, rel=1e-12)
  few = correlated(2, 5, 40)
  assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-6 * np.trace(np.cov(few.T)))
  constant = np.ones((6, 3))
  assert frechet_distance(constant, constant + 2) == pytest.approx(12.0)


def test_few_vectors_of_many_features():
  # 7 and 9 vectors of 50 features are computed in the 16 dimensions that they span. Zeros in 100 more change nothing.
  a, b = correlated(3, 7, 50), correlated(4, 9, 50)
  padded = [np.pad(x, ((0, 0), (0, 100))) for x in (a, b)]
  assert frechet_distance(a, b) == pytest.approx(by_scipy(a, b), rel=1e-5)
  assert frechet_distance(*padded) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_extrapolation_removes_the_bias():
  # The distance of a distribution to itself is 0; with 400 clips and 20 features the estimate is far above.
  generator = np.random.default_rng(7)
  pairs = [generator.normal(size=(2, 400, 20)) for _ in range(8)]
  plain = np.mean([frechet_distance(*pair) for pair in pairs])
  extrapolated = np.mean([extrapolated_frechet_distance(*pair) for pair in pairs])
  assert plain > 0.3
  assert abs(extrapolated) < plain / 8
  # The smallest possible sets have twice as many clips as features.
  pairs = [generator.normal(size=(2, 80, 40)) for _ in range(8)]
  plain = np.mean([frechet_distance(*pair) for pair in pairs])
  assert abs(np.mean([extrapolated_frechet_distance(*pair) for pair in pairs])) < plain / 8


def test_a_large_offset_does_not_lose_digits():
  # With sums of squares in float64, a variance of 1 at a mean of 1e5 would keep six digits only.
  a = np.random.default_rng(1).normal(1e5, 1.0, (1000, 2))
  assert frechet_distance(a, 3 * (a - 1e5) + 1e5) == pytest.approx(by_scipy(a - 1e5, 3 * (a - 1e5)), rel=1e-6)


def test_extrapolation_needs_twice_as_many_clips_as_features():
  with pytest.raises(ValueError, match="needs 6 clips or more for 3 features, got 5 and 60"):
    extrapolated_frechet_distance(np.zeros((5, 3)), np.zeros((60, 3)))


def test_kernel_distance_by_hand():
  # One feature: k(x, y) = (x y + 1)^3. a = {0, 1}: k(0, 1) = 1. b = {1, 2}: k(1, 2) = 27.
  # Across: k(0,1) = k(0,2) = 1, k(1,1) = 8, k(1,2) = 27, mean 37/4. 1 + 27 - 2 * 37/4 = 9.5.
  a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
  assert kernel_distance(a, b) == pytest.approx(9.5, rel=1e-12)


def test_kernel_distance_equals_a_double_loop_for_any_block_size(monkeypatch):
  generator = np.random.default_rng(0)
  a, b = generator.normal(size=(13, 5)), generator.normal(0.5, 1, size=(11, 5))

  def k(x, y):
    return (x @ y / 5 + 1) ** 3

  expected = (
    np.mean([k(a[i], a[j]) for i in range(13) for j in range(13) if i != j])
    + np.mean([k(b[i], b[j]) for i in range(11) for j in range(11) if i != j])
    - 2 * np.mean([k(x, y) for x in a for y in b])
  )
  assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)
  monkeypatch.setattr("vidgen_jax.scores.metrics.set_distance._ROWS", 4)
  assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_is_unbiased():
  generator = np.random.default_rng(1)
  values = [kernel_distance(*generator.normal(size=(2, 10, 3))) for _ in range(400)]
  assert abs(np.mean(values)) < 4 * np.std(values) / 20
  assert min(values) < 0
