"""Inception score: how sure a classifier is of each clip, and how evenly it spreads them over the classes."""

import itertools

import numpy as np


def inception_score(logits: np.ndarray, *, num_splits: int = 1) -> float:
  """exp(mean KL(p(y|x) || p(y))) (Salimans et al. 2016; MVT-GAN, eq. 7), p(y) being the mean of the set's p(y|x).

  Args:
    logits: [N, K], before the softmax, finite.
    num_splits: equal parts, in the order of the clips, that are scored by themselves and averaged (TGANv2's code: 10).
      A smaller part scores
      lower, so the number belongs to the protocol.

  Returns:
    A value in [1, K].

  Raises:
    ValueError: if the logits are not [N, K] or not finite, or there are fewer clips than parts.
  """
  logits = np.asarray(logits, np.float64)
  if logits.ndim != 2 or not np.isfinite(logits).all():
    raise ValueError(f"the inception score needs finite logits [N, K], got shape {logits.shape}")
  if not 1 <= num_splits <= len(logits):
    raise ValueError(f"{num_splits=} does not fit {len(logits)} clips")
  log_p = logits - logits.max(axis=1, keepdims=True)
  log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
  bounds = [len(log_p) * part // num_splits for part in range(num_splits + 1)]
  return float(np.mean([_score(log_p[start:stop]) for start, stop in itertools.pairwise(bounds)]))


def _score(log_p: np.ndarray) -> float:
  p = np.exp(log_p)
  marginal = p.mean(axis=0)
  # A class that no clip can be has p = 0 wherever the logarithm of its marginal is infinite: 0 log 0 = 0.
  log_marginal = np.log(np.where(marginal > 0, marginal, 1.0))
  return float(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))
