"""Scores of whole sets of clips: distances to the real set, inception score, diversity."""

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.scores.extraction import FeatureExtractor, Features
from vidgen_jax.scores.metric import Metric, Need
from vidgen_jax.scores.metrics.bootstrap import mean_interval, statistic_interval
from vidgen_jax.scores.metrics.set_distance import frechet_distance, in_common_span
from vidgen_jax.scores.registry import METRICS, network_metrics
from vidgen_jax.scores.report import Score


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


def set_metrics(network: str, options: SetOptions, *, samples: int) -> list[Metric]:
  """The metrics that `SetScorer` computes on a network's output for `samples` samples per condition."""
  return [
    metric
    for metric in network_metrics(network)
    if (samples > 1 or Need.SAMPLES not in metric.needs)
    and (not metric.enabled_by or getattr(options, metric.enabled_by))
  ]


def content_score(subject: str, values: np.ndarray, *, protocol: str = "", **fields: Any) -> Score:
  """The content distance of a set from the values [N] of `average_content_distance`; `fields` are those of `Score`.

  A `protocol` replaces the one of mean colours.
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
  """Scores sets of clips (T, H, W, C) against one real set, by the features of one network.

  `real_fields` are `Score` fields of the real set: split and num_clips.
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
    """All scores of a subject, as means over its sets, whose i-th clips are samples of one condition.

    Raises:
      UserError: if there are too few clips.
    """
    fields = {**self._fields, **fields, "num_generated": sum(map(len, samples)), "samples": len(samples)}
    yield from self._distances(subject, self._real, samples, fields)
    yield from self._own_scores(subject, samples, fields)
    for metric in self._metrics(len(samples)):
      if Need.SAMPLES in metric.needs:
        values = metric.function(np.stack([_layer(metric, sample) for sample in samples], axis=1))
        yield Score(
          subject=subject,
          metric=metric.row,
          value=float(values.mean()),
          protocol=f"{metric.protocol.format(samples=len(samples))}, {_layer_name(metric)}, {self._input}",
          interval=mean_interval(values),
          **fields,
        )

  def score_real(self) -> Iterator[Score]:
    """Distances between random halves of the real set, a lower bound for sets of this size; its inception score."""
    if (halves := self._halves()) is not None:
      first, second = halves
      fields = self._fields | {"num_clips": len(first), "num_generated": len(second)}
      yield from self._distances("real, other half", first, [second], fields)
    yield from self._own_scores("real", [self._real], self._fields | {"num_generated": len(self._real)})

  def _metrics(self, samples: int = 1) -> list[Metric]:
    return set_metrics(self._network, self._options, samples=samples)

  def _warn_of_bias(self, name: str, samples: Sequence[Features]) -> None:
    metric = next(metric for metric in self._metrics() if metric.function is frechet_distance)
    real, fake = _layer(metric, self._real), _layer(metric, samples[0])
    count, size = min(len(real), len(fake)), real.shape[1]
    if count >= 2 * size or count < 2:
      return
    halves = self._halves()
    if halves is None:
      reference = "there are too few real clips to estimate it"
    else:
      parts = in_common_span(*(_layer(metric, half) for half in halves))
      value = frechet_distance(*parts, unbiased=self._unbiased)
      reference = f"two halves of the real set, {len(halves[0])} clips each, are at {metric.row} {value:.4g}"
    logging.warning(
      "%s: %d clips are few for a covariance of %d features: %s has a bias; %s; compare equal numbers of clips only",
      *(name, count, size, metric.row, reference),
    )

  def _halves(self) -> tuple[Features, Features] | None:
    order = np.random.default_rng(self._options.seed).permutation(len(self._real))
    half = len(order) // 2
    return (self._real[order[:half]], self._real[order[half : 2 * half]]) if half > 1 else None

  def _distances(
    self, subject: str, real: Features, samples: Sequence[Features], fields: Mapping[str, Any]
  ) -> Iterator[Score]:
    if min(map(len, (real, *samples))) < 2:
      raise UserError(f"a distance between sets needs two clips on either side; {subject} or the real set has fewer")
    for metric in self._metrics():
      if Need.REAL_SET in metric.needs:
        sets = [(_layer(metric, real), _layer(metric, sample)) for sample in samples]
        if metric.in_common_span:
          sets = [in_common_span(*pair) for pair in sets]
        yield from self._mean_score(subject, metric, sets, fields, how=f"{_layer_name(metric)}, {self._input}")

  def _own_scores(self, subject: str, samples: Sequence[Features], fields: Mapping[str, Any]) -> Iterator[Score]:
    """Scores that need no other set."""
    # Files of a folder are sorted by class, so that a split of neighbouring clips would hold few classes.
    order = np.random.default_rng(self._options.seed).permutation
    for metric in self._metrics():
      if Need.REAL_SET not in metric.needs:
        sets = [(_layer(metric, sample)[order(len(sample))],) for sample in samples]
        yield from self._mean_score(subject, metric, sets, fields, how=self._input)

  def _mean_score(
    self, subject: str, metric: Metric, sets: Sequence[tuple[np.ndarray, ...]], fields: Mapping[str, Any], *, how: str
  ) -> Iterator[Score]:
    """One set: its value with an interval over clips; several: mean and interval over sets (Inbetweening, 4.2)."""
    seed, splits, resamples = self._options.seed, self._options.splits, self._options.bootstrap
    known = inspect.signature(metric.function).parameters
    options = {"unbiased": self._unbiased, "seed": seed, "num_splits": splits}
    statistic = functools.partial(metric.function, **{name: options[name] for name in options if name in known})
    try:
      values = [statistic(*one) for one in sets]
    except ValueError as error:
      if not metric.enabled_by:
        raise UserError(f"{metric.row} of {subject}: {error}") from error
      logging.warning("no %s of %s: %s", metric.row, subject, error)
      return
    protocol = metric.protocol.format(
      divisor="(N - 1)" if self._unbiased else "N",
      splits=f"mean of {splits} splits, drawn at random" if splits > 1 else "",
    )
    if len(values) == 1:
      if metric.max_interval_clips is not None and max(map(len, sets[0])) > metric.max_interval_clips:
        resamples = 0
      interval = statistic_interval(
        statistic, values[0], sets[0], at_least=metric.at_least, num_resamples=resamples, seed=seed
      )
      over = f"interval over clips, {resamples} resamples" if interval else ""
    else:
      interval = mean_interval(np.array(values), seed=seed) if resamples else None
      over = f"mean and interval over {len(values)} sets of samples"
    yield Score(
      subject=subject,
      metric=metric.row,
      value=float(np.mean(values)),
      protocol=", ".join(filter(None, [how, protocol, over])),
      interval=interval,
      **fields,
    )


def _layer(metric: Metric, features: Features) -> np.ndarray:
  return features.logits if Need.LOGITS in metric.needs else features.features


def _layer_name(metric: Metric) -> str:
  return "logits" if Need.LOGITS in metric.needs else "last layer but one"
