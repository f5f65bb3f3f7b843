"""Scores from the output of a classifier: inception score and symmetric similarity score S3."""

import itertools
import math

import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need


def inception_score(logits: np.ndarray, *, num_splits: int = 1) -> float:
  """exp(mean KL(p(y|x) || p(y))), where p(y) is the mean of p(y|x) over the set (MVT-GAN eq. 7).

  Args:
    logits: [N, K], before the softmax, finite.
    num_splits: equal parts, in the order of the clips, that are scored separately and averaged (10 in TGANv2's code).
      Smaller parts score lower, so the number belongs to the protocol.

  Returns:
    Value in [1, K].

  Raises:
    ValueError: if there are fewer clips than parts.
  """
  logits = np.asarray(logits, np.float64)
  if not 1 <= num_splits <= len(logits):
    raise ValueError(f"{num_splits=} does not fit {len(logits)} clips")
  log_p = logits - logits.max(axis=1, keepdims=True)
  log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
  bounds = [len(log_p) * part // num_splits for part in range(num_splits + 1)]
  return float(np.mean([_score(log_p[start:stop]) for start, stop in itertools.pairwise(bounds)]))


def _score(log_p: np.ndarray) -> float:
  p = np.exp(log_p)
  marginal = p.mean(axis=0)
  # A class with marginal 0 has p = 0 for each clip: 0 log 0 = 0.
  log_marginal = np.log(np.where(marginal > 0, marginal, 1.0))
  return float(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))


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


METRICS = (
  Metric(
    name="inception_score",
    description="how certain a classifier is of each clip, and how evenly it assigns the clips to the classes; 1 to "
    "the number of classes",
    source="Salimans et al., arXiv:1606.03498; MVT-GAN eq. 7; C3D on UCF-101 as in TGAN and TGANv2",
    protocol="{splits}",
    function=inception_score,
    higher_is_better=True,
    kind=Kind.SET,
    needs=(Need.LOGITS,),
    at_least=1.0,
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
