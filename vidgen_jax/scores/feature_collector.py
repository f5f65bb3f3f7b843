"""Features and content distances of the clips of an evaluation, collected batch by batch and scored as sets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vidgen_jax.scores.extraction import FeatureExtractor, Features, concatenate
from vidgen_jax.scores.metrics.content_distance import average_content_distance
from vidgen_jax.scores.registry import METRICS
from vidgen_jax.scores.report import Score
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer, content_score

MODEL, INTERPOLATION, REAL = "model", "naive_interpolation", "real"
"""Subjects with a meaning; all others are baselines. `INTERPOLATION` is a baseline that the model computes."""


class FeatureCollector:
  """Takes batches of clips, keeps their features only, and scores the sets at the end.

  It may be used for several evaluations of the same clips (--follow, --repeats): features that do not depend on the
  model are computed once. Without extractors, only the content distance is computed.
  """

  def __init__(self, extractors: Sequence[FeatureExtractor], *, options: SetOptions) -> None:
    self.extractors, self.options = extractors, options
    # By subject and sample; of each batch: content distances, and the features of each network.
    self._batches: dict[str, dict[int, list[tuple[np.ndarray | None, list[Features]]]]] = {}
    self._fixed: set[str] = set()
    self._clip_shape: tuple[int, ...] = ()

  def add(self, subject: str, sample: int, video: np.ndarray) -> None:
    """Adds whole clips uint8[B, T, H, W, C], conditioning frames included, the same on every process.

    Args:
      subject: 'real', 'model', or a baseline's name.
      sample: number of the sample of the same clips, from 0.
      video: clips; UserError if a network does not accept them, or its features are not finite.
    """
    if subject in self._fixed:
      return
    self._clip_shape = video.shape[1:]
    content = average_content_distance(video) if video.shape[1] > 1 else None
    batches = self._batches.setdefault(subject, {}).setdefault(sample, [])
    batches.append((content, [extractor.extract(video) for extractor in self.extractors]))

  def scores(
    self, *, model_fields: Mapping[str, Any], plain_fields: Mapping[str, Any], baselines: bool = True
  ) -> Iterator[Score]:
    """The scores of all clips so far; afterwards the model's clips are dropped, the others are kept.

    `model_fields` are the fields of the model's `Score`s, `plain_fields` those of the real clips and the baselines;
    without `baselines` only the model is scored.
    """
    subjects = list(self._batches) if baselines else [MODEL]
    if self._clip_shape[0] > 1:
      protocol = f"{METRICS['content_distance'].protocol}, whole clip"
      for subject in subjects:
        samples = self._batches[subject]
        own = {**model_fields, "samples": len(samples)} if subject == MODEL else {}
        values = np.mean([np.concatenate([content for content, _ in batches]) for batches in samples.values()], axis=0)
        yield content_score(subject, values, protocol=protocol, **{**plain_fields, **own})
    for index, extractor in enumerate(self.extractors):
      sets = {
        subject: [concatenate(features[index] for _, features in batches) for batches in samples.values()]
        for subject, samples in self._batches.items()
      }
      (real,), model = sets.pop(REAL), sets.pop(MODEL)
      scorer = SetScorer(extractor, real, clip_shape=self._clip_shape, options=self.options, real_fields=plain_fields)
      if baselines:
        yield from scorer.score_all(MODEL, model, sets, **model_fields)
      else:
        yield from scorer.score(MODEL, model, **model_fields)
    for subject in (MODEL, INTERPOLATION):
      self._batches.pop(subject, None)
    self._fixed = set(self._batches)
