"""S3 against hand values and the published table."""

import pytest

from vidgen_jax.scores.metrics.s3 import s3_score


@pytest.mark.parametrize(
  ("ser", "res", "rer", "expected"),
  [
    (1.0, 1.0, 1.0, 1.0),
    # (0.4 / 0.8) (0.9 / 0.8) = 0.5 * 1.125 = 0.5625 = 0.75^2.
    (0.4, 0.9, 0.8, 0.75),
    (0.0, 0.9, 0.8, 0.0),
    (0.9, 0.0, 0.8, 0.0),
    # Noise: a synthetic classifier may be better than the real one.
    (0.8, 0.8, 0.5, 1.6),
  ],
)
def test_by_hand(ser, res, rer, expected):
  assert s3_score(ser=ser, res=res, rer=rer) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
  ("ser", "res", "rer", "expected"),
  # Munoz et al., Temporal Shift GAN for Large Scale Video Generation, table 2 (per cent) and table 3,
  # partly rounded there, partly cut off.
  [
    (61.11, 32.83, 95.83, 0.47),
    (80.31, 62.53, 95.83, 0.73),
    (88.10, 71.43, 95.83, 0.83),
    (45.5, 46.8, 85.9, 0.54),
    (15.85, 13.86, 91.4, 0.16),
    (36.63, 28.83, 76.82, 0.42),
  ],
)
def test_published_scores(ser, res, rer, expected):
  assert s3_score(ser=ser / 100, res=res / 100, rer=rer / 100) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("name", ["ser", "res", "rer"])
@pytest.mark.parametrize("value", [-0.01, 1.01, 95.83, float("nan")])
def test_what_is_no_share_is_refused(name, value):
  with pytest.raises(ValueError, match=rf"{name} must be an accuracy in \[0, 1\], got"):
    s3_score(**{"ser": 0.5, "res": 0.5, "rer": 0.5} | {name: value})


def test_a_real_classifier_that_recognises_nothing_gives_no_score():
  with pytest.raises(ValueError, match="rer=0"):
    s3_score(ser=0.5, res=0.5, rer=0.0)
