"""Scores of whole sets of clips: distances to the real set, inception score, diversity."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.scores.extraction import FeatureExtractor, Features, concatenate
from vidgen_jax.scores.metric import Metric, Need
from vidgen_jax.scores.metrics.intervals import mean_interval
from vidgen_jax.scores.metrics.set_distance import frechet_distance
from vidgen_jax.scores.registry import METRICS, network_metrics
from vidgen_jax.scores.report import Score


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetOptions:
  """Options of the scores of sets.

  Attributes:
    intervals: whether distances and the inception score have intervals.
    extrapolate: whether to compute the Frechet distance for infinitely many clips too.
    splits: random parts over which scores that need no other set, such as the inception score, are averaged.
    seed: seed of these parts and of the halves of the real set.
    pool_samples: whether the samples of all conditions are one set, instead of one set per sample.
    nearest_k: neighbours that define the manifolds of precision, recall, density and coverage; 0 for none of them.
  """

  intervals: bool = True
  extrapolate: bool = False
  splits: int = 1
  seed: int = 0
  pool_samples: bool = False
  nearest_k: int = 0


def set_metrics(network: str, options: SetOptions, *, samples: int) -> list[Metric]:
  """The metrics that `SetScorer` computes on a network's output for `samples` samples per condition."""
  return [
    metric
    for metric in network_metrics(network)
    if (samples > 1 or Need.SAMPLES not in metric.needs)
    and (not metric.enabled_by or getattr(options, metric.enabled_by))
  ]


def content_metrics(*, tracking: bool) -> list[str]:
  """Names of the content distances; `tracking` says whether the clips show one bright object."""
  return ["content_distance", *(["content_distance_object"] if tracking else [])]


def content_score(
  subject: str, values: np.ndarray, *, metric: str = "content_distance", protocol: str = "", **fields: Any
) -> Score:
  """The content distance of a set from its values [N], NaN where a clip has none; `fields` are those of `Score`.

  `metric` is the name of one of `content_metrics`, whose protocol a `protocol` replaces.
  """
  known = values[~np.isnan(values)]
  value = float(known.mean()) if known.size else math.nan
  fields |= {"protocol": protocol or METRICS[metric].protocol, "interval": mean_interval(values)}
  return Score(subject=subject, metric=metric, value=value, **fields)


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
    self._real, self._options, self._unbiased = real, options, extractor.unbiased
    self._metrics = set_metrics(extractor.network, options, samples=2)
    # Frames of one clip are no independent draws, and are each other's nearest neighbours.
    self._has_intervals = options.intervals and real.num_frames == 1
    if options.nearest_k and real.num_frames > 1:
      logging.warning("%s: no precision and recall of all frames; see --fid_frames=middle", extractor.name)
      self._metrics = [metric for metric in self._metrics if metric.enabled_by != "nearest_k"]
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
    frechet = next(metric for metric in self._metrics if metric.function is frechet_distance)
    layers = [_layer(frechet, features) for features in (self._real, samples[0])]
    count, size = min(map(len, layers)), layers[0].shape[1]
    if count < 2 * size:
      logging.warning(
        "%s: %d clips are few for a covariance of %d features: %s has a bias, which the distance between halves of the "
        "real set shows; compare only sets of equal size",
        *(subject, count, size, frechet.row),
      )
    yield from self.score(subject, samples, **fields)
    yield from self.score_real()
    for other, sets in others.items():
      yield from self.score(other, sets)

  def score(self, subject: str, samples: Sequence[Features], **fields: Any) -> Iterator[Score]:
    """All scores of a subject, as means over its sets, whose i-th clips are samples of one condition.

    With `SetOptions.pool_samples` the sets are joined, except for scores of the samples of one condition.

    Raises:
      UserError: if there are too few clips.
    """
    fields = {**self._fields, **fields, "num_generated": sum(map(len, samples)), "samples": len(samples)}
    sets = [concatenate(samples)] if self._options.pool_samples else samples
    yield from self._distances(subject, self._real, sets, fields)
    yield from self._own_scores(subject, sets, fields)
    for metric in self._metrics:
      if Need.SAMPLES in metric.needs and len(samples) > 1:
        values = metric.function(np.stack([_layer(metric, sample) for sample in samples], axis=1))
        value, interval = float(values.mean()), mean_interval(values) if self._has_intervals else None
        protocol = f"{metric.protocol.format(samples=len(samples))}, {_layer_name(metric)}, {self._input}"
        yield Score(subject=subject, metric=metric.row, value=value, protocol=protocol, interval=interval, **fields)

  def score_real(self) -> Iterator[Score]:
    """Distances between random halves of the real set, a lower bound for sets of this size; its inception score."""
    count = len(self._real)
    if (half := count // 2) > 1:
      order = np.random.default_rng(self._options.seed).permutation(count)
      first, second = self._real[order[:half]], self._real[order[half : 2 * half]]
      fields = self._fields | {"num_clips": half, "num_generated": half}
      yield from self._distances("real, other half", first, [second], fields)
    yield from self._own_scores("real", [self._real], self._fields | {"num_generated": count})

  def _distances(
    self, subject: str, real: Features, samples: Sequence[Features], fields: Mapping[str, Any]
  ) -> Iterator[Score]:
    if min(map(len, (real, *samples))) < 2:
      raise UserError(f"a distance between sets needs two clips on either side; {subject} or the real set has fewer")
    for metric in self._metrics:
      if Need.REAL_SET in metric.needs:
        sets = [(_layer(metric, real), _layer(metric, sample)) for sample in samples]
        yield from self._mean_score(subject, metric, sets, fields, how=f"{_layer_name(metric)}, {self._input}")

  def _own_scores(self, subject: str, samples: Sequence[Features], fields: Mapping[str, Any]) -> Iterator[Score]:
    """Scores that need no other set, of each of the `SetOptions.splits` parts of each sample."""
    splits = self._options.splits
    if splits > min(map(len, samples)):
      raise UserError(f"--splits={splits} is more than the {min(map(len, samples))} clips of {subject}")
    # Files of a folder are sorted by class, so that a part of neighbouring clips would hold few classes.
    order = np.random.default_rng(self._options.seed).permutation
    for metric in self._metrics:
      if not {Need.REAL_SET, Need.SAMPLES} & {*metric.needs}:
        mixed = [_layer(metric, sample[order(len(sample))]) for sample in samples]
        sets = [(part,) for layer in mixed for part in np.array_split(layer, splits)]
        how = f"{self._input}, {splits} splits, drawn at random" if splits > 1 else self._input
        yield from self._mean_score(subject, metric, sets, fields, how=how)

  def _mean_score(
    self, subject: str, metric: Metric, sets: Sequence[tuple[np.ndarray, ...]], fields: Mapping[str, Any], *, how: str
  ) -> Iterator[Score]:
    """One set: its value with an interval over clips; several: mean and interval over sets of one model's samples.

    The intervals of Inbetweening, table 1, also cover several trainings: `vidgen compare-runs`.
    """
    known = inspect.signature(metric.function).parameters
    options = {"unbiased": self._unbiased, "seed": self._options.seed, "k": self._options.nearest_k}
    statistic = functools.partial(metric.function, **{name: options[name] for name in options if name in known})
    try:
      values = [statistic(*one) for one in sets]
    except ValueError as error:
      if not metric.enabled_by:
        raise UserError(f"{metric.row} of {subject}: {error}") from error
      logging.warning("no %s of %s: %s", metric.row, subject, error)
      return
    protocol = metric.protocol.format(divisor="(N - 1)" if self._unbiased else "N", k=self._options.nearest_k)
    interval, over, deviation = None, "", None
    if len(values) > 1:
      deviation = float(np.std(values, ddof=1))
      interval = mean_interval(np.array(values)) if self._has_intervals else None
      over = f"mean and interval over {len(values)} sets"
    elif self._has_intervals and metric.interval is not None:
      interval, over = metric.interval(values[0], *sets[0]), "interval over clips"
    protocol = ", ".join(filter(None, [how, protocol, over]))
    found: dict[str, Any] = {"value": float(np.mean(values)), "deviation": deviation, "interval": interval}
    yield Score(subject=subject, metric=metric.row, protocol=protocol, **found, **fields)


def _layer(metric: Metric, features: Features) -> np.ndarray:
  return features.vectors("logits" if Need.LOGITS in metric.needs else "features")


def _layer_name(metric: Metric) -> str:
  return "logits" if Need.LOGITS in metric.needs else "last layer but one"
