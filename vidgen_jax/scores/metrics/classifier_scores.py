"""Scores from the output of a classifier: inception score and symmetric similarity score S3."""

import math

import numpy as np
from scipy.special import bdtrc, betaincinv

from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics.intervals import jackknife_variance, t_interval

_Counts = tuple[int, int]


def inception_score(logits: np.ndarray) -> float:
  """exp(mean KL(p(y|x) || p(y))), where p(y) is the mean of p(y|x) over the set (MVT-GAN eq. 7).

  Args:
    logits: [N, K], before the softmax, finite. The fewer clips, the lower is the score.

  Returns:
    Value in [1, K].
  """
  return float(np.exp(_divergences(logits)[1].mean()))


def inception_interval(value: float, logits: np.ndarray) -> tuple[float, float]:
  """95 % interval of `value`, the inception score of [N, K] logits; see `intervals`. It is that of log(value)."""
  p, divergences = _divergences(logits)
  # The second-order part of log(value) is -sum_k (change of p(y))^2 / p(y) / 2.
  marginal = p.mean(axis=0)
  scaled = (p - marginal) / np.sqrt(np.where(marginal > 0, marginal, 1.0))
  pairs = np.square(scaled.T @ scaled / len(p)).sum() / (2.0 * len(p) ** 2)
  low, high = t_interval(math.log(value), jackknife_variance([divergences], float(pairs)), count=len(p))
  return max(math.exp(low), 1.0), math.exp(high)


def _divergences(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """p(y|x) [N, K] and KL(p(y|x) || p(y)) [N]; in float64."""
  logits = np.asarray(logits, np.float64)
  log_p = logits - logits.max(axis=1, keepdims=True)
  log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
  p = np.exp(log_p)
  marginal = p.mean(axis=0)
  # A class with marginal 0 has p = 0 for each clip: 0 log 0 = 0.
  log_marginal = np.log(np.where(marginal > 0, marginal, 1.0))
  return p, (p * (log_p - log_marginal)).sum(axis=1)


def s3_score(*, ser: float, res: float, rer: float) -> float:
  """sqrt((SeR / ReR) (ReS / ReR)) (Munoz et al., eq. 9); classifiers of different architectures do not compare.

  Args:
    ser: accuracy in [0, 1] on real clips of a classifier trained on synthetic ones; needs realistic and diverse clips.
    res: accuracy in [0, 1] on synthetic clips of a classifier trained on real ones; needs realistic clips.
    rer: accuracy in [0, 1] on real clips of a classifier trained on real ones; not 0.

  Returns:
    Score >= 0; 1 if real and synthetic clips cannot be distinguished, and slightly more by chance.
  """
  return math.sqrt((ser / rer) * (res / rer))


def s3_interval(*, ser: _Counts, res: _Counts, rer: _Counts) -> tuple[float, float]:
  """95 % interval of `s3_score` over other test clips and synthetic clips, for the same two classifiers.

  The percentiles of S3 of rates drawn from their posteriors (Jeffreys' prior), which also holds for rates near 0 and 1.
  SeR and ReR count as independent: both are measured on the same clips, and if these are difficult for both
  classifiers, the interval is wider than necessary.

  Args:
    ser: number of recognised clips and of all clips, as for `s3_score`.
    res: likewise.
    rer: likewise.
  """
  generator = np.random.default_rng(0)
  rates = [generator.beta(right + 0.5, count - right + 0.5, size=20_000) for right, count in (ser, res, rer)]
  low, high = np.percentile(np.sqrt(rates[0] * rates[1]) / rates[2], (2.5, 97.5))
  return (0.0 if 0 in (ser[0], res[0]) else float(low)), float(high)


def fraction_interval(num_right: int, num_clips: int) -> tuple[float, float]:
  """95 % interval of the rate of which `num_right / num_clips` is an estimate (Jeffreys; Brown et al., 2001)."""
  low, high = (betaincinv(num_right + 0.5, num_clips - num_right + 0.5, level) for level in (0.025, 0.975))
  return (0.0 if num_right == 0 else float(low)), (1.0 if num_right == num_clips else float(high))


def chance_p_value(num_right: int, num_clips: int, *, chance: float) -> float:
  """Probability that a classifier which is right with probability `chance` recognises `num_right` clips or more."""
  return float(bdtrc(num_right - 1, num_clips, chance)) if num_right else 1.0


METRICS = (
  Metric(
    name="inception_score",
    description="how certain a classifier is of each clip, and how evenly it assigns the clips to the classes; 1 to "
    "the number of classes",
    source="Salimans et al., arXiv:1606.03498; MVT-GAN eq. 7; C3D on UCF-101 as in TGAN and TGANv2",
    protocol="",
    function=inception_score,
    higher_is_better=True,
    kind=Kind.SET,
    needs=(Need.LOGITS,),
    interval=inception_interval,
  ),
  Metric(
    name="s3",
    description="symmetric similarity score: accuracies of two classifiers of one architecture, trained on real and on "
    "synthetic clips; 1 if the two kinds cannot be distinguished (vidgen classify)",
    source="Munoz et al., Temporal Shift GAN for Large Scale Video Generation, section 5, eq. 9",
    protocol="sqrt(SeR ReS) / ReR",
    function=s3_score,
    higher_is_better=True,
    kind=Kind.SET,
    needs=(Need.REAL_SET, Need.LABELS),
    selectable=False,  # `vidgen evaluate` does not compute it.
  ),
)
