"""Features and content distances of the clips of an evaluation, collected batch by batch and scored as sets."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vidgen_jax.scores.extraction import FeatureExtractor, Features, concatenate
from vidgen_jax.scores.metrics.content_distance import average_content_distance
from vidgen_jax.scores.registry import METRICS
from vidgen_jax.scores.report import Score
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer, content_score

MODEL, REAL = "model", "real"
"""Subjects with a meaning; all others are baselines."""


class FeatureCollector:
  """Takes batches of clips, keeps their features only, and scores the sets at the end.

  It may be used for several evaluations of the same clips (`vidgen evaluate --follow`): features that do not depend on
  the model are computed once. Without extractors, only the content distance is computed.
  """

  def __init__(self, extractors: Sequence[FeatureExtractor], *, options: SetOptions) -> None:
    self.extractors, self.options = extractors, options
    self._parts: dict[tuple[int, str, int], list[Features]] = defaultdict(list)
    self._content: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
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
    if video.shape[1] > 1:
      self._content[subject, sample].append(average_content_distance(video))
    for index, extractor in enumerate(self.extractors):
      self._parts[index, subject, sample].append(extractor.extract(video))

  def scores(self, *, model_fields: Mapping[str, Any], plain_fields: Mapping[str, Any]) -> Iterator[Score]:
    """The scores of all clips so far; afterwards the model's clips are dropped, the others are kept.

    `model_fields` are the fields of the model's `Score`s, `plain_fields` those of the real clips and the baselines.
    """
    subjects = list(dict.fromkeys([*(key[0] for key in self._content), *(key[1] for key in self._parts)]))
    yield from self._content_scores(subjects, model_fields, plain_fields)
    for index, extractor in enumerate(self.extractors):
      (real,) = self._sets(index, REAL)
      scorer = SetScorer(extractor, real, clip_shape=self._clip_shape, options=self.options, real_fields=plain_fields)
      baselines = {subject: self._sets(index, subject) for subject in subjects if subject not in (MODEL, REAL)}
      yield from scorer.score_all(MODEL, self._sets(index, MODEL), baselines, **model_fields)
    for key in [key for key in self._parts if MODEL in key]:
      del self._parts[key]
    for key in [key for key in self._content if MODEL in key]:
      del self._content[key]
    self._fixed = {subject for subject in subjects if subject != MODEL}

  def _sets(self, index: int, subject: str) -> list[Features]:
    keys = sorted(key for key in self._parts if key[:2] == (index, subject))
    return [concatenate(self._parts[key]) for key in keys]

  def _content_scores(
    self, subjects: Sequence[str], model_fields: Mapping[str, Any], plain_fields: Mapping[str, Any]
  ) -> Iterator[Score]:
    protocol = f"{METRICS['content_distance'].protocol}, whole clip"
    for subject in subjects:
      samples = [np.concatenate(parts) for (name, _), parts in self._content.items() if name == subject]
      if not samples:
        continue
      own = {**model_fields, "samples": len(samples)} if subject == MODEL else {}
      yield content_score(subject, np.mean(samples, axis=0), protocol=protocol, **{**plain_fields, **own})
