"""Confidence intervals against the normal approximation, and their coverage."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.bootstrap import mean_interval, statistic_interval


def test_mean_interval_is_near_the_normal_interval():
  values = np.random.default_rng(2).normal(3.0, 2.0, 400)
  low, high = mean_interval(np.append(values, np.nan), num_resamples=4000)
  assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.03)
  assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.06)
  assert mean_interval(np.array([1.0, np.nan])) is None
  assert mean_interval(np.array([3.0, 3.0])) == (3.0, 3.0)


def test_statistic_interval_contains_the_value_although_resamples_are_biased():
  # For a mean, it equals the interval of the mean. A count of repeated clips increases in each resample.
  generator = np.random.default_rng(3)
  sets = list(generator.normal(size=(2, 200, 1)))
  low, high = statistic_interval(lambda a: float(a.mean()), float(sets[0].mean()), sets[:1], num_resamples=2000)
  assert (high - low) / 2 == pytest.approx(1.96 * sets[0].std() / np.sqrt(200), rel=0.08)

  def spread(a, b):
    return float(len(a) - len(np.unique(np.concatenate([a, b]))))

  value = spread(*sets)
  low, high = statistic_interval(spread, value, sets, num_resamples=100)
  assert low < value < high
  assert statistic_interval(spread, value, sets, num_resamples=0) is None
  assert statistic_interval(spread, value, sets, at_least=value, num_resamples=100) == (value, high)


def test_statistic_interval_has_its_nominal_coverage():
  # 120 experiments: the difference of two means, true value 1, which about 95 % of the intervals contain.
  generator = np.random.default_rng(4)
  covered = 0
  for _ in range(120):
    a, b = generator.normal(0, 1, (40, 1)), generator.normal(1, 1, (40, 1))
    value = float(b.mean() - a.mean())
    low, high = statistic_interval(lambda a, b: float(b.mean() - a.mean()), value, [a, b], num_resamples=200)
    covered += low <= 1.0 <= high
  assert 0.88 <= covered / 120 <= 0.99
