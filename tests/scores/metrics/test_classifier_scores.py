"""Inception score and S3 against values by hand and published tables."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.classifier_scores import (
  chance_p_value,
  fraction_interval,
  inception_interval,
  inception_score,
  s3_interval,
  s3_score,
)


def test_the_interval_of_an_inception_score_does_not_go_below_its_minimum():
  logits = np.random.default_rng(0).normal(scale=0.1, size=(2, 4))
  low, high = inception_interval(inception_score(logits), logits)
  assert low == 1.0 < high < 1.1


def test_inception_score_by_hand():
  # Certain, and evenly distributed over four classes: KL = log 4, score 4. Always the same class: 1. Never certain: 1.
  sure = 1000.0 * np.eye(4)
  assert inception_score(sure) == pytest.approx(4.0)
  assert inception_score(np.repeat(sure[:1], 6, axis=0)) == pytest.approx(1.0)
  assert inception_score(np.zeros((6, 4))) == pytest.approx(1.0)
  # p = (3/4, 1/4) and (1/4, 3/4), marginal (1/2, 1/2): KL = 3/4 log(3/2) + 1/4 log(1/2).
  logits = np.log([[3.0, 1.0], [1.0, 3.0]])
  assert inception_score(logits) == pytest.approx(1.5**0.75 * 0.5**0.25, rel=1e-12)
  assert inception_score(logits + 500.0) == pytest.approx(1.5**0.75 * 0.5**0.25, rel=1e-12)


@pytest.mark.parametrize(
  ("ser", "res", "rer", "expected"),
  [
    (1.0, 1.0, 1.0, 1.0),
    # (0.4 / 0.8) (0.9 / 0.8) = 0.5 * 1.125 = 0.5625 = 0.75^2.
    (0.4, 0.9, 0.8, 0.75),
    (0.0, 0.9, 0.8, 0.0),
    (0.9, 0.0, 0.8, 0.0),
    # By chance, the synthetic classifier may be better than the real one.
    (0.8, 0.8, 0.5, 1.6),
  ],
)
def test_s3_by_hand(ser, res, rer, expected):
  assert s3_score(ser=ser, res=res, rer=rer) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
  ("ser", "res", "rer", "expected"),
  # Munoz et al., Temporal Shift GAN for Large Scale Video Generation, tables 2 and 3 (per cent); some of the scores are
  # rounded there, others truncated.
  [
    (61.11, 32.83, 95.83, 0.47),
    (80.31, 62.53, 95.83, 0.73),
    (88.10, 71.43, 95.83, 0.83),
    (45.5, 46.8, 85.9, 0.54),
    (15.85, 13.86, 91.4, 0.16),
    (36.63, 28.83, 76.82, 0.42),
  ],
)
def test_s3_equals_published_scores(ser, res, rer, expected):
  assert s3_score(ser=ser / 100, res=res / 100, rer=rer / 100) == pytest.approx(expected, abs=0.01)


def test_intervals_of_rates():
  # Jeffreys' interval of 1 of 10 (Brown et al., Interval Estimation for a Binomial Proportion, 2001, table 5).
  assert fraction_interval(1, 10) == pytest.approx((0.011, 0.381), abs=6e-4)
  assert fraction_interval(0, 10)[0] == 0.0 and fraction_interval(10, 10)[1] == 1.0
  # Normal approximation: 0.8 +- 1.96 sqrt(0.8 * 0.2 / 400).
  assert fraction_interval(320, 400) == pytest.approx((0.7608, 0.8392), abs=0.003)


def test_interval_of_s3():
  # Delta method: the variance of log S3 is that of log SeR / 2 + log ReS / 2 - log ReR, (1 - p) / (n p) each.
  low, high = s3_interval(ser=(2000, 4000), res=(3000, 4000), rer=(3600, 4000))
  spread = 1.96 * np.sqrt((0.25 * 0.5 / 0.5 + 0.25 * 0.25 / 0.75 + 0.1 / 0.9) / 4000)
  value = s3_score(ser=0.5, res=0.75, rer=0.9)
  assert (low, high) == pytest.approx((value * np.exp(-spread), value * np.exp(spread)), rel=3e-3)
  assert s3_interval(ser=(0, 10), res=(5, 10), rer=(9, 10))[0] == 0.0


def test_chance_by_hand():
  # Two of three at 1/2: 3/8 + 1/8.
  assert chance_p_value(2, 3, chance=0.5) == pytest.approx(0.5)
  assert chance_p_value(0, 3, chance=0.5) == 1.0
