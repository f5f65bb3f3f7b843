"""Scores of whole sets of clips: distances to the real set, inception score, diversity."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.scores.extraction import FeatureExtractor, Features
from vidgen_jax.scores.metric import Metric, Need
from vidgen_jax.scores.metrics.bootstrap import mean_interval, statistic_interval
from vidgen_jax.scores.metrics.classifier_scores import inception_score
from vidgen_jax.scores.metrics.diversity import pairwise_cosine_distance
from vidgen_jax.scores.metrics.set_distance import (
  extrapolated_frechet_distance,
  frechet_distance,
  in_common_span,
  kernel_distance,
)
from vidgen_jax.scores.registry import METRICS, network_metric
from vidgen_jax.scores.report import Score

KERNEL_INTERVAL_CLIPS = 2000
"""Larger sets get no interval of the kernel distance, whose cost grows with the square of the number of clips."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetOptions:
  """Options of the scores of sets.

  Attributes:
    bootstrap: number of resamples for the intervals of distances; 0 for no intervals.
    extrapolate: whether to compute the Frechet distance for infinitely many clips too.
    splits: parts over which the inception score is averaged.
    seed: seed of the resamples and of the halves of the real set.
  """

  bootstrap: int = 200
  extrapolate: bool = False
  splits: int = 1
  seed: int = 0

  def __post_init__(self):
    for name, smallest in (("bootstrap", 0), ("splits", 1)):
      if getattr(self, name) < smallest:
        raise UserError(f"--{name}={getattr(self, name)} must be at least {smallest}")


def set_metric_names(network: str, options: SetOptions, *, samples: int) -> set[str]:
  """Names of the metrics that `SetScorer` computes on a network's output for `samples` samples per condition."""
  functions: list[Callable[..., Any]] = [frechet_distance, kernel_distance, inception_score]
  functions += [extrapolated_frechet_distance] if options.extrapolate else []
  functions += [pairwise_cosine_distance] if samples > 1 else []
  return {network_metric(function, network).row for function in functions}


def content_score(subject: str, values: np.ndarray, *, protocol: str = "", **fields: Any) -> Score:
  """The content distance of a set from the values [N] of its clips; see `average_content_distance`.

  Args:
    subject: name of the scored set.
    values: content distances.
    protocol: replaces the protocol of mean colours.
    **fields: further fields of `Score`.
  """
  metric = METRICS["content_distance"]
  return Score(
    subject=subject,
    metric=metric.row,
    value=float(values.mean()),
    protocol=protocol or metric.protocol,
    interval=mean_interval(values),
    **fields,
  )


class SetScorer:
  """Scores sets of clips against one real set, by the features of one network.

  Args:
    extractor: extractor of the features.
    real: features of the real clips.
    clip_shape: (T, H, W, C) of all clips.
    options: options of the scores.
    real_fields: `Score` fields of the real set: split and num_clips.
  """

  def __init__(
    self,
    extractor: FeatureExtractor,
    real: Features,
    *,
    clip_shape: Sequence[int],
    options: SetOptions,
    real_fields: Mapping[str, Any],
  ) -> None:
    self._real, self._options = real, options
    self._network, self._unbiased = extractor.network, extractor.unbiased
    self._input = extractor.protocol(clip_shape)
    self._fields: dict[str, Any] = dict(real_fields) | {
      "extractor": extractor.label,
      "extractor_hash": extractor.hash,
      "clip": "x".join(map(str, clip_shape)),
    }
    self._on_logits = Need.LOGITS in network_metric(frechet_distance, self._network).needs
    self._how = f"{'logits' if self._on_logits else 'last layer but one'}, {self._input}"

  def score_all(
    self, subject: str, samples: Sequence[Features], others: Mapping[str, Sequence[Features]], **fields: Any
  ) -> Iterator[Score]:
    """Scores of a subject, the real set and others (by name), such as baselines; see `score`.

    If there are few clips for the number of features, the bias of the Frechet distance is logged.
    """
    if samples:
      self._warn_of_bias(subject, samples)
      yield from self.score(subject, samples, **fields)
    yield from self.score_real()
    for other, sets in others.items():
      yield from self.score(other, sets)

  def score(self, subject: str, samples: Sequence[Features], **fields: Any) -> Iterator[Score]:
    """All scores of a subject: distances and inception score as means over its sets; for several sets also diversity.

    Args:
      subject: name of the scored set.
      samples: l sets; their i-th clips are samples of one condition.
      **fields: further fields of `Score`.
    """
    fields = {**self._fields, **fields, "num_generated": sum(map(len, samples)), "samples": len(samples)}
    yield from self._distances(subject, self._real, samples, fields)
    yield self._inception_score(subject, samples, fields)
    if len(samples) > 1:
      metric = network_metric(pairwise_cosine_distance, self._network)
      distances = metric.function(np.stack([self._layer(sample) for sample in samples], axis=1))
      yield Score(
        subject=subject,
        metric=metric.row,
        value=float(distances.mean()),
        protocol=f"{metric.protocol.format(samples=len(samples))}, {self._how}",
        interval=mean_interval(distances),
        **fields,
      )

  def score_real(self) -> Iterator[Score]:
    """Distances between random halves of the real set, a lower bound for sets of this size; its inception score."""
    halves = self._halves()
    if halves is not None:
      first, second = halves
      fields = self._fields | {"num_clips": len(first), "num_generated": len(second)}
      yield from self._distances("real, other half", first, [second], fields)
    yield self._inception_score("real", [self._real], self._fields | {"num_generated": len(self._real)})

  def _warn_of_bias(self, name: str, samples: Sequence[Features]) -> None:
    real, fake = self._layer(self._real), self._layer(samples[0])
    count, size = min(len(real), len(fake)), real.shape[1]
    if count >= 2 * size or count < 2:
      return
    half, metric = self._halves(), network_metric(frechet_distance, self._network).row
    if half is None:
      reference = "there are too few real clips to estimate it"
    else:
      value = frechet_distance(*in_common_span(*map(self._layer, half)), unbiased=self._unbiased)
      reference = f"two halves of the real set, {len(half[0])} clips each, are at {metric} {value:.4g}"
    logging.warning(
      "%s: %d clips are few for a covariance of %d features: %s has a bias; %s; compare equal numbers of clips only",
      *(name, count, size, metric, reference),
    )

  def _halves(self) -> tuple[Features, Features] | None:
    order = np.random.default_rng(self._options.seed).permutation(len(self._real))
    half = len(order) // 2
    return (self._real[order[:half]], self._real[order[half : 2 * half]]) if half > 1 else None

  def _layer(self, features: Features) -> np.ndarray:
    return features.logits if self._on_logits else features.features

  def _distances(
    self, subject: str, real: Features, samples: Sequence[Features], fields: Mapping[str, Any]
  ) -> Iterator[Score]:
    pairs = [(self._layer(real), self._layer(sample)) for sample in samples]
    if min(len(part) for pair in pairs for part in pair) < 2:
      raise UserError(f"a distance between sets needs two clips on either side; {subject} or the real set has fewer")
    # The kernel distance divides by the number of features, so it needs the full coordinates.
    spans = [in_common_span(*pair) for pair in pairs]
    metric = network_metric(frechet_distance, self._network)
    yield self._mean_score(subject, metric, spans, fields, options={"unbiased": self._unbiased}, at_least=0.0)
    large = max(len(part) for part in pairs[0]) > KERNEL_INTERVAL_CLIPS
    metric = network_metric(kernel_distance, self._network)
    yield self._mean_score(subject, metric, pairs, fields, resamples=0 if large else None)
    if self._options.extrapolate:
      metric = network_metric(extrapolated_frechet_distance, self._network)
      options = {"unbiased": self._unbiased, "seed": self._options.seed}
      try:
        yield self._mean_score(subject, metric, spans, fields, options=options, resamples=0)
      except ValueError as error:
        logging.warning("no %s of %s: %s", metric.row, subject, error)

  def _inception_score(self, subject: str, samples: Sequence[Features], fields: Mapping[str, Any]) -> Score:
    splits, metric = self._options.splits, network_metric(inception_score, self._network)
    how = self._input if splits == 1 else f"{self._input}, mean of {splits} splits, drawn at random"
    # Files of a folder are sorted by class, so that a split of neighbouring clips would hold few classes.
    order = np.random.default_rng(self._options.seed).permutation
    sets = [(sample.logits[order(len(sample))],) for sample in samples]
    try:
      return self._mean_score(subject, metric, sets, fields, how=how, options={"num_splits": splits}, at_least=1.0)
    except ValueError as error:
      raise UserError(f"--splits={splits}: {error}") from error

  def _mean_score(
    self,
    subject: str,
    metric: Metric,
    sets: Sequence[tuple[np.ndarray, ...]],
    fields: Mapping[str, Any],
    *,
    how: str = "",
    options: Mapping[str, Any] | None = None,
    resamples: int | None = None,
    at_least: float = -math.inf,
  ) -> Score:
    """One set: its value with an interval over clips; several: mean and interval over sets (Inbetweening, 4.2)."""
    statistic = functools.partial(metric.function, **(options or {}))
    resamples = self._options.bootstrap if resamples is None else resamples
    seed, values = self._options.seed, [statistic(*one) for one in sets]
    protocol = [how or self._how, metric.protocol.format(divisor="(N - 1)" if self._unbiased else "N")]
    if len(values) == 1:
      interval = statistic_interval(
        statistic, values[0], sets[0], at_least=at_least, num_resamples=resamples, seed=seed
      )
      protocol += [f"interval over clips, {resamples} resamples"] if interval else []
    else:
      interval = mean_interval(np.array(values), seed=seed) if self._options.bootstrap else None
      protocol += [f"mean and interval over {len(values)} sets of samples"]
    return Score(
      subject=subject,
      metric=metric.row,
      value=float(np.mean(values)),
      protocol=", ".join(filter(None, protocol)),
      interval=interval,
      **fields,
    )
