"""Features and content distances of the clips of an evaluation, collected batch by batch and scored as sets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vidgen_jax.scores.extraction import FeatureExtractor, Features, concatenate
from vidgen_jax.scores.metrics.best_of import mean_over_clips
from vidgen_jax.scores.registry import METRICS
from vidgen_jax.scores.report import Score
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer, content_metrics, content_score

MODEL, INTERPOLATION, REAL = "model", "naive_interpolation", "real"
"""Subjects with a meaning; all others are baselines. `INTERPOLATION` is a baseline that the model computes."""


class FeatureCollector:
  """Takes batches of clips, keeps their features only, and scores the sets at the end.

  It may be used for several evaluations of the same clips (--follow, --repeats): features that do not depend on the
  model are computed once. Without extractors, only content distances are computed, with `tracking` that of the object
  too.
  """

  def __init__(self, extractors: Sequence[FeatureExtractor], *, options: SetOptions, tracking: bool = False) -> None:
    self.extractors, self.options = extractors, options
    self._contents = [METRICS[name] for name in content_metrics(tracking=tracking)]
    # By subject and sample; of each batch: the content distances, and the features of each network.
    self._batches: dict[str, dict[int, list[tuple[list[np.ndarray], list[Features]]]]] = {}
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
    contents = [metric.function(video) for metric in self._contents if video.shape[1] > 1]
    batches = self._batches.setdefault(subject, {}).setdefault(sample, [])
    batches.append((contents, [extractor.extract(video) for extractor in self.extractors]))

  def scores(
    self, *, model_fields: Mapping[str, Any], plain_fields: Mapping[str, Any], baselines: bool = True
  ) -> Iterator[Score]:
    """The scores of all clips so far; afterwards the model's clips are dropped, the others are kept.

    `model_fields` are the fields of the model's `Score`s, `plain_fields` those of the real clips and the baselines;
    without `baselines` only the model is scored.
    """
    subjects = list(self._batches) if baselines else [MODEL]
    for subject in subjects if self._clip_shape[0] > 1 else ():
      samples = self._batches[subject]
      own = {**model_fields, "samples": len(samples)} if subject == MODEL else {}
      for index, metric in enumerate(self._contents):
        values = [np.concatenate([contents[index] for contents, _ in batches]) for batches in samples.values()]
        fields: dict[str, Any] = {**plain_fields, **own, "protocol": f"{metric.protocol}, whole clip"}
        yield content_score(subject, mean_over_clips(np.stack(values)), metric=metric.name, **fields)
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
