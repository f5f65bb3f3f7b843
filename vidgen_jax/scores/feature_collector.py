"""What is kept of clips that are scored as sets: features and content distances, never the clips."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vidgen_jax.scores.extraction import FeatureExtractor, Features, concatenate
from vidgen_jax.scores.metrics.bootstrap import mean_interval
from vidgen_jax.scores.metrics.content_distance import average_content_distance
from vidgen_jax.scores.metrics.report import Score
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer

MODEL, REAL = "model", "real"
"""Subjects that mean something here; any other is a baseline."""


class FeatureCollector:
  """Takes batches of clips as they are made, and scores them as sets afterwards.

  An instance may be used for one evaluation after another of the same clips, as `vidgen evaluate --follow` does: what
  does not depend on the model is then computed once.
  """

  def __init__(self, extractors: Sequence[FeatureExtractor], *, options: SetOptions) -> None:
    """Holds nothing yet.

    Args:
      extractors: feature networks; may be none, which leaves the content distance.
      options: of the scores.
    """
    self._extractors, self._options = extractors, options
    self._parts: dict[tuple[int, str, int], list[Features]] = defaultdict(list)
    self._content: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    self._fixed: set[str] = set()
    self._clip_shape: tuple[int, ...] | None = None

  def add(self, subject: str, sample: int, video: np.ndarray) -> None:
    """Takes whole clips, conditioning frames included.

    Args:
      subject: 'real', 'model', or a baseline's name.
      sample: which of the samples drawn for the same clips; 0 where there is one.
      video: uint8[B, T, H, W, C], the same on every process.

    Raises:
      UserError: if a network does not take such clips, or its features are not finite.
    """
    if subject in self._fixed:
      return
    self._clip_shape = video.shape[1:]
    if video.shape[1] > 1:
      self._content[subject, sample].append(average_content_distance(video))
    for index, extractor in enumerate(self._extractors):
      self._parts[index, subject, sample].append(extractor.extract(video))

  def scores(self, *, model_fields: Mapping[str, Any], plain_fields: Mapping[str, Any]) -> Iterator[Score]:
    """The scores of everything that was added; the model's clips are forgotten, the others kept.

    Args:
      model_fields: fields of `Score` that hold for the model.
      plain_fields: those that hold for the real clips and the baselines: split and num_clips.
    """
    subjects = list(dict.fromkeys([*(key[0] for key in self._content), *(key[1] for key in self._parts)]))
    yield from self._content_scores(subjects, model_fields, plain_fields)
    for index, extractor in enumerate(self._extractors):
      (real,) = self._sets(index, REAL)
      scorer = SetScorer(extractor, real, clip_shape=self._clip_shape, options=self._options, real_fields=plain_fields)
      model = self._sets(index, MODEL)
      if model:
        scorer.warn_of_bias(MODEL, model)
        yield from scorer.score(MODEL, model, **model_fields)
      yield from scorer.score_real()
      for subject in subjects:
        if subject not in (MODEL, REAL):
          yield from scorer.score(subject, self._sets(index, subject))
    for held in (self._parts, self._content):
      for key in [key for key in held if MODEL in key]:
        del held[key]
    self._fixed = {subject for subject in subjects if subject != MODEL}

  def _sets(self, index: int, subject: str) -> list[Features]:
    keys = sorted(key for key in self._parts if key[:2] == (index, subject))
    return [concatenate(self._parts[key]) for key in keys]

  def _content_scores(
    self, subjects: list[str], model_fields: Mapping[str, Any], plain_fields: Mapping[str, Any]
  ) -> Iterator[Score]:
    for subject in subjects:
      samples = [np.concatenate(parts) for (name, _), parts in self._content.items() if name == subject]
      if not samples:
        continue
      values = np.mean(samples, axis=0)
      yield Score(
        subject=subject,
        metric="content_distance",
        value=float(values.mean()),
        protocol="mean colours of frames on [0, 255], whole clip",
        interval=mean_interval(values),
        **(dict(plain_fields) | (dict(model_fields) | {"samples": len(samples)} if subject == MODEL else {})),
      )
