import numpy as np
import pytest

from vidgen_jax.scores.metrics.moments import moments_of, no_moments


def test_batches_in_any_order_give_the_moments_of_the_whole():
  features = np.random.default_rng(0).normal(5.0, 2.0, (53, 4))
  parts = [features[:1], features[1:20], features[20:20], features[20:]]
  for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
    total = no_moments(4)
    for index in order:
      total = total + moments_of(parts[index])
    assert total.count == 53
    np.testing.assert_allclose(total.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(total.covariance(), np.cov(features.T), rtol=1e-12)
    np.testing.assert_allclose(total.covariance(unbiased=False), np.cov(features.T, bias=True), rtol=1e-12)


def test_a_large_offset_costs_no_digits():
  # Sums of squares in float64 would leave about six digits of a variance of 1 beside a mean of 1e5.
  features = np.random.default_rng(1).normal(1e5, 1.0, (1000, 2))
  total = moments_of(features[:500]) + moments_of(features[500:])
  np.testing.assert_allclose(total.covariance(), np.cov(features.T), rtol=1e-9, atol=1e-9)


def test_what_has_no_moments_is_refused():
  with pytest.raises(ValueError, match="2 of 3 features are not finite"):
    moments_of(np.array([[1.0, np.nan], [np.inf, 0.0], [1.0, 1.0]]))
  with pytest.raises(ValueError, match=r"must be \[N, D\]"):
    moments_of(np.zeros(3))
  with pytest.raises(ValueError, match="at least 2"):
    moments_of(np.zeros((1, 3))).covariance()
