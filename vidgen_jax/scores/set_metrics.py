"""Scores of whole sets of clips: distances to the real set, inception score, diversity; each with its protocol."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.scores.extraction import FeatureExtractor, Features
from vidgen_jax.scores.metrics.bootstrap import mean_interval, statistic_interval
from vidgen_jax.scores.metrics.diversity import pairwise_cosine_distance
from vidgen_jax.scores.metrics.frechet import extrapolated_frechet_distance, frechet_distance_of, in_common_span
from vidgen_jax.scores.metrics.inception_score import inception_score
from vidgen_jax.scores.metrics.kernel_distance import kernel_distance
from vidgen_jax.scores.metrics.report import Score

FRECHET_NAMES = {"i3d": "fvd", "tsn": "fid"}
"""Frechet distances that have a name: on I3D's logits (FVD), on TSN's last layer but one (MVT-GAN, B.2)."""

KERNEL_NAMES = {"i3d": "kvd"}

OTHER_FRECHET, OTHER_KERNEL = "clip_frechet", "clip_kernel"
"""On the last layer but one of any other classifier, such as one trained here: no published number compares."""

KERNEL_INTERVAL_CLIPS = 2000
"""Larger sets get no interval of the kernel distance, whose cost grows with the square of the number of clips."""


def distance_names(network: str) -> tuple[str, str]:
  """What the Frechet and the kernel distance on a network's features are called in scores."""
  return FRECHET_NAMES.get(network, OTHER_FRECHET), KERNEL_NAMES.get(network, OTHER_KERNEL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetOptions:
  """How sets are scored.

  Attributes:
    bootstrap: resamples for the intervals of distances; 0 for none.
    extrapolate: also gives the Frechet distance for infinitely many clips.
    splits: of the inception score.
    seed: of the resamples, and of the halves of the real set.
  """

  bootstrap: int = 200
  extrapolate: bool = False
  splits: int = 1
  seed: int = 0

  def __post_init__(self):
    for name, smallest in (("bootstrap", 0), ("splits", 1)):
      if getattr(self, name) < smallest:
        raise UserError(f"--{name}={getattr(self, name)} must be at least {smallest}")


class SetScorer:
  """Scores sets of clips against one real set, by the features of one network."""

  def __init__(
    self,
    extractor: FeatureExtractor,
    real: Features,
    *,
    clip_shape: Sequence[int],
    options: SetOptions,
    real_fields: Mapping[str, Any],
  ) -> None:
    """Takes the real set.

    Args:
      extractor: that made the features.
      real: of the real clips.
      clip_shape: (T, H, W, C) of all clips.
      options: of the scores.
      real_fields: `Score` fields of the real set: split and num_clips.
    """
    self._extractor, self._options = extractor, options
    self._real = real
    self._fields = dict(real_fields) | {
      "extractor": extractor.label,
      "extractor_hash": extractor.hash,
      "clip": "x".join(map(str, clip_shape)),
    }
    self._input = extractor.protocol(clip_shape)
    self.frechet_name, self.kernel_name = distance_names(extractor.network)

  def score(self, subject: str, samples: Sequence[Features], **fields: Any) -> Iterator[Score]:
    """All scores of a subject.

    Args:
      subject: what is scored.
      samples: l sets; the i-th clips of all of them are samples of one condition.
      **fields: further fields of `Score`.

    Yields:
      Distances and the inception score as means over the l sets; for l > 1 also the diversity.
    """
    fields = self._fields | fields | {"num_generated": sum(map(len, samples)), "samples": len(samples)}
    yield from self._distances(subject, self._real, samples, fields)
    yield self._inception_score(subject, samples, fields)
    if len(samples) > 1:
      stacked = np.stack([self._chosen(sample) for sample in samples], axis=1)
      distances = pairwise_cosine_distance(stacked)
      protocol = (
        f"mean pairwise cosine distance of {len(samples)} samples of one condition, {self._layer}, {self._input}"
      )
      yield Score(
        subject=subject,
        metric="diversity",
        value=float(distances.mean()),
        protocol=protocol,
        interval=mean_interval(distances),
        **fields,
      )

  def score_real(self) -> Iterator[Score]:
    """The real set against itself: two disjoint halves, drawn at random; and its own inception score.

    Half as many clips make a larger bias: it is the least that a distance between sets of that size can show.
    """
    halves = self._halves()
    if halves is not None:
      first, second = halves
      fields = self._fields | {"num_clips": len(first), "num_generated": len(second)}
      yield from self._distances("real, other half", first, [second], fields)
    yield self._inception_score("real", [self._real], self._fields | {"num_generated": len(self._real)})

  def warn_of_bias(self, name: str, samples: Sequence[Features]) -> None:
    """Says, where there are few clips for the network's features, how far real clips seem from real ones."""
    real, fake = self._chosen(self._real), self._chosen(samples[0])
    count, size = min(len(real), len(fake)), real.shape[1]
    if count >= 2 * size or count < 2:
      return
    half, metric = self._halves(), self.frechet_name
    if half is None:
      yardstick = "there are too few real clips to tell how large"
    else:
      value = self._frechet(*(self._chosen(part) for part in half))
      yardstick = f"two halves of the real set, {len(half[0])} clips each, are at {metric} {value:.4g}"
    logging.warning(
      "%s: %d clips are few for a covariance of %d features: %s has a bias; %s; compare equal numbers of clips only",
      *(name, count, size, metric, yardstick),
    )

  def _halves(self) -> tuple[Features, Features] | None:
    """Two disjoint halves of the real set, drawn at random; None for fewer than four clips."""
    order = np.random.default_rng(self._options.seed).permutation(len(self._real))
    half = len(order) // 2
    return (self._real[order[:half]], self._real[order[half : 2 * half]]) if half > 1 else None

  def _frechet(self, a: np.ndarray, b: np.ndarray) -> float:
    return frechet_distance_of(*in_common_span(a, b), unbiased=self._extractor.unbiased)

  @property
  def _layer(self) -> str:
    return "logits" if self._extractor.network == "i3d" else "last layer but one"

  def _chosen(self, features: Features) -> np.ndarray:
    """What distances are taken on."""
    return features.logits if self._extractor.network == "i3d" else features.features

  def _distances(
    self, subject: str, real: Features, samples: Sequence[Features], fields: Mapping[str, Any]
  ) -> Iterator[Score]:
    options, unbiased = self._options, self._extractor.unbiased
    pairs = [(self._chosen(real), self._chosen(sample)) for sample in samples]
    if min(len(part) for pair in pairs for part in pair) < 2:
      raise UserError(f"a distance between sets needs two clips on either side; {subject} or the real set has fewer")
    # Fewer coordinates, where there are few clips; not for the kernel, which divides by the number of features.
    spans = [in_common_span(*pair) for pair in pairs]
    how = f"{self._layer}, {self._input}"

    def frechet(a: np.ndarray, b: np.ndarray) -> float:
      return frechet_distance_of(a, b, unbiased=unbiased)

    def infinity(a: np.ndarray, b: np.ndarray) -> float:
      return extrapolated_frechet_distance(a, b, unbiased=unbiased, seed=options.seed)

    covariance = "covariance / (N - 1)" if unbiased else "covariance / N"
    yield self._mean_score(subject, self.frechet_name, frechet, spans, f"{how}, {covariance}", fields, at_least=0.0)
    large = max(len(part) for part in pairs[0]) > KERNEL_INTERVAL_CLIPS
    protocol = f"{how}, unbiased MMD^2, cubic kernel"
    yield self._mean_score(
      subject, self.kernel_name, kernel_distance, pairs, protocol, fields, resamples=0 if large else None
    )
    if options.extrapolate:
      name, protocol = f"{self.frechet_name}_infinity", f"{how}, {covariance}, line over 1 / N of 15 sizes"
      try:
        yield self._mean_score(subject, name, infinity, spans, protocol, fields, resamples=0)
      except ValueError as error:
        logging.warning("no %s of %s: %s", name, subject, error)

  def _inception_score(self, subject: str, samples: Sequence[Features], fields: Mapping[str, Any]) -> Score:
    splits = self._options.splits

    def score(logits: np.ndarray) -> float:
      return inception_score(logits, num_splits=splits)

    protocol = self._input if splits == 1 else f"{self._input}, mean of {splits} splits, drawn at random"
    # The files of a folder are in the order of their classes, of which a part of them would then hold a few only.
    order = np.random.default_rng(self._options.seed).permutation
    sets = [(sample.logits[order(len(sample))],) for sample in samples]
    try:
      return self._mean_score(subject, "inception_score", score, sets, protocol, fields, at_least=1.0)
    except ValueError as error:
      raise UserError(f"--splits={splits}: {error}") from error

  def _mean_score(
    self,
    subject: str,
    metric: str,
    statistic: Callable[..., float],
    sets: Sequence[tuple[np.ndarray, ...]],
    protocol: str,
    fields: Mapping[str, Any],
    *,
    resamples: int | None = None,
    at_least: float = -math.inf,
  ) -> Score:
    """Of one set, with an interval over clips; of several the mean, with an interval over sets (Inbetweening, 4.2)."""
    options = self._options
    resamples = options.bootstrap if resamples is None else resamples
    values = [statistic(*one) for one in sets]
    if len(values) == 1:
      interval = statistic_interval(
        statistic, values[0], sets[0], at_least=at_least, num_resamples=resamples, seed=options.seed
      )
      protocol += f", interval over clips, {resamples} resamples" if interval else ""
    else:
      interval = mean_interval(np.array(values), seed=options.seed) if options.bootstrap else None
      protocol += f", mean and interval over {len(values)} sets of samples"
    value = float(np.mean(values))
    return Score(subject=subject, metric=metric, value=value, protocol=protocol, interval=interval, **fields)
