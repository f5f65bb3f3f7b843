"""Inception score and S3 against values by hand and published tables."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.classifier_scores import inception_score, s3_score


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
