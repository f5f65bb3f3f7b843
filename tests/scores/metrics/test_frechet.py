import numpy as np
import pytest
import scipy.linalg

from vidgen_jax.scores.metrics.frechet import (
  extrapolated_frechet_distance,
  frechet_distance,
  frechet_distance_of,
  in_common_span,
)
from vidgen_jax.scores.metrics.moments import moments_of


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
def test_equals_scipys_root(unbiased):
  a, b = correlated(0, 300, 24), correlated(1, 200, 24, scale=1.7)
  expected = by_scipy(a, b, bias=not unbiased)
  assert frechet_distance_of(a, b, unbiased=unbiased) == pytest.approx(expected, rel=1e-6)
  assert frechet_distance_of(b, a, unbiased=unbiased) == pytest.approx(expected, rel=1e-6)


def test_one_dimension_by_hand():
  # Variances 4 and 9 (ddof 1: +-2/sqrt2 around 0, +-3/sqrt2 around 1), means 0 and 1: 1 + 4 + 9 - 2 sqrt(36) = 2.
  a = np.array([[-1.0], [1.0]]) * np.sqrt(2)
  b = np.array([[-1.0], [1.0]]) * 3 / np.sqrt(2) + 1
  assert frechet_distance_of(a, b) == pytest.approx(2.0, rel=1e-12)


def test_singular_covariances_are_survived():
  # Fewer vectors than features, and features that never vary. Diagonal case by hand: variances (1, 4, 0) and (9, 0, 0):
  # trace 14 - 2 sqrt(1 * 9) = 8.
  a = np.array([[1, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0]]) * np.sqrt(1.5)
  b = np.array([[3.0, 0, 0], [-3, 0, 0]]) / np.sqrt(2)
  assert frechet_distance_of(a, b) == pytest.approx(8.0, rel=1e-12)
  few = correlated(2, 5, 40)
  assert frechet_distance_of(few, few) == pytest.approx(0.0, abs=1e-6 * np.trace(np.cov(few.T)))
  constant = np.ones((6, 3))
  assert frechet_distance_of(constant, constant + 2) == pytest.approx(12.0)


def test_the_common_span_changes_no_distance():
  a, b = correlated(3, 7, 50), correlated(4, 9, 50)
  turned = in_common_span(a, b)
  assert [part.shape for part in turned] == [(7, 16), (9, 16)]
  assert frechet_distance_of(*turned) == pytest.approx(frechet_distance_of(a, b), rel=1e-6)
  wide = in_common_span(correlated(5, 30, 4), correlated(6, 30, 4))
  assert wide[0].shape == (30, 4)


def test_extrapolation_takes_the_bias_away():
  # Two sets of one distribution are at distance 0; at 400 clips of 20 features the estimate is well above.
  generator = np.random.default_rng(7)
  pairs = [generator.normal(size=(2, 400, 20)) for _ in range(8)]
  plain = np.mean([frechet_distance_of(*pair) for pair in pairs])
  extrapolated = np.mean([extrapolated_frechet_distance(*pair) for pair in pairs])
  assert plain > 0.3
  assert abs(extrapolated) < plain / 8
  # Twice as many clips as features are the least: a smaller part than as many as there are features bends the line.
  pairs = [generator.normal(size=(2, 80, 40)) for _ in range(8)]
  plain = np.mean([frechet_distance_of(*pair) for pair in pairs])
  assert abs(np.mean([extrapolated_frechet_distance(*pair) for pair in pairs])) < plain / 8


def test_other_networks_features_and_single_clips_are_refused():
  with pytest.raises(ValueError, match="3 and 4 features"):
    frechet_distance(moments_of(np.zeros((5, 3))), moments_of(np.zeros((5, 4))))
  with pytest.raises(ValueError, match="at least 2"):
    frechet_distance_of(np.zeros((1, 3)), np.zeros((5, 3)))
  with pytest.raises(ValueError, match="needs 6 clips or more for 3 features, got 5 and 60"):
    extrapolated_frechet_distance(np.zeros((5, 3)), np.zeros((60, 3)))
