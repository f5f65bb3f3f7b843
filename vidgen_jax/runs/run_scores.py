"""Scores of a run: of each clip, of each frame, and of the clips as a set."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from vidgen_jax.buckets import AnyPath
from vidgen_jax.gans import SampleOptions
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.scoring import Evaluation
from vidgen_jax.runs.workdir import Trained, check_label_map
from vidgen_jax.scores.feature_collector import FeatureCollector
from vidgen_jax.scores.metric import Kind, Need
from vidgen_jax.scores.metrics.bootstrap import mean_interval
from vidgen_jax.scores.registry import METRICS
from vidgen_jax.scores.report import Score, frames_text


def score_run(
  trained: Trained,
  *,
  options: SampleOptions,
  folder: AnyPath,
  collector: FeatureCollector,
  batch_norm: str = "standing",
  seed: int = 0,
) -> tuple[list[Score], list[Score]]:
  """Scores clips as `config.evaluation` and `config.data.eval_split` define, and draws some of them.

  The contact sheet and the GIF are written to `folder`. `seed` is that of the latents.

  Returns:
    Scores of whole clips and sets; scores of each frame.

  Raises:
    UserError: if the data set is missing or has other classes than the model, the frames are too small, or the disk is
      full.
  """
  experiment, nets, settings = trained.experiment, trained.nets, trained.experiment.config.evaluation
  check_label_map(trained)
  batches = generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=settings.num_clips)
  first = next(batches)  # Raises for a missing data set before anything is compiled.
  if batch_norm == "standing":
    logging.info("standing statistics over %d batches", settings.standing_batches)
    key = generation.standing_statistics_key(experiment)
    nets = generation.prepare_nets(experiment, nets, key, options=options, num_batches=settings.standing_batches)
  key, indices = jax.random.key(seed), experiment.algorithm.conditioning_indices(options.num_frames)
  inputs, sample_key = generation.conditioning_batch(first, indices), generation.sample_key(key, 0, 0)
  prediction = generation.predict(experiment, nets, inputs, sample_key, options=options, batch_norm=batch_norm)
  if jax.process_index() == 0:
    images = scoring.draw_images(
      folder, trained.step, prediction=prediction, truth=first["video"], conditioning_indices=indices
    )
    logging.info("contact sheet %s, GIF %s", images.sheet_path, images.gif_path)
  logging.info("drawing and scoring %d samples per clip", settings.samples)
  evaluation = scoring.evaluate(
    experiment,
    nets,
    key,
    options=options,
    num_clips=settings.num_clips,
    samples=settings.samples,
    batch_norm=batch_norm,
    collector=collector,
  )
  common: dict[str, Any] = {"split": experiment.config.data.eval_split, "num_clips": evaluation.num_clips}
  common |= {"step": trained.step, "weights": trained.weights, "batch_norm": batch_norm, "seed": seed}
  common |= {"truncation": options.truncation, "conditioning_indices": frames_text(indices)}
  shape = {"clip": "x".join(map(str, first["video"].shape[1:]))}
  sets = collector.scores(model_fields=common, plain_fields=_plain(common))
  return [*clip_scores(evaluation, common | shape), *sets], list(frame_scores(evaluation, common | shape))


def clip_scores(evaluation: Evaluation, common: Mapping[str, Any]) -> Iterator[Score]:
  """One score per subject and metric: the mean over clips, and for the model also the mean over the best samples.

  `common` has the fields of `Score` for the model; the baselines get those that apply to them.
  """
  for subject, fields, aggregate, values in _aggregates(evaluation, common):
    for metric in (METRICS[name] for name in METRICS if name in values):
      if aggregate.startswith("best") and not metric.selectable:
        continue
      found = values[metric.name]
      clips = np.array([scoring.mean_without_nan(clip) for clip in found.reshape(len(found), -1)])
      yield Score(
        subject=subject,
        metric=metric.row,
        value=scoring.mean_without_nan(clips),
        unit=metric.unit,
        protocol=", ".join(filter(None, [metric.protocol, aggregate])),
        interval=mean_interval(clips),
        **fields,
      )


def frame_scores(evaluation: Evaluation, common: Mapping[str, Any]) -> Iterator[Score]:
  """Scores of each generated frame, as '{metric}_frame_{0-based index in the clip}'; arguments as in `clip_scores`."""
  by_frame = [m for m in METRICS.values() if m.kind is Kind.FRAME and Need.CONDITIONING not in m.needs]
  for subject, fields, aggregate, values in _aggregates(evaluation, common):
    for metric in by_frame:
      if metric.name not in values:
        continue
      for index, frame in zip(evaluation.frames, values[metric.name].T, strict=True):
        yield Score(
          subject=subject,
          metric=f"{metric.row}_frame_{index}",
          value=scoring.mean_without_nan(frame),
          unit=metric.unit,
          protocol=", ".join(filter(None, ["one frame", aggregate])),
          **fields,
        )


def curve_text(scores: Sequence[Score]) -> str:
  """The scores of `frame_scores` as a table: one line per subject, one column per frame; '' without scores."""
  if not scores:
    return ""
  curves: dict[str, list[float]] = {}
  frames: dict[str, None] = {}
  for score in scores:
    metric, _, frame = score.metric.partition("_frame_")
    _, _, aggregate = score.protocol.partition(", ")
    frames[frame] = None
    head = " ".join(filter(None, [metric, score.subject, f"({aggregate})" if aggregate else ""]))
    curves.setdefault(head, []).append(score.value)
  width = max(map(len, curves))
  lines = [" ".join([f"{'by frame':<{width}}", *(f"{f't={frame}':>8}" for frame in frames)])]
  lines += [" ".join([f"{head:<{width}}", *(f"{value:8.4g}" for value in values)]) for head, values in curves.items()]
  return "\n".join(lines)


def _aggregates(
  evaluation: Evaluation, common: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], str, scoring.Scores]]:
  """Yields (subject, fields of its scores, how samples were combined, values by metric)."""
  count = evaluation.model.num_samples
  fields = {**common, "samples": count}
  yield "model", fields, f"mean of {count} samples" if count > 1 else "", evaluation.model.mean
  if count > 1:
    yield "model", fields, f"best of {count} samples", evaluation.model.best
  for subject, scores in evaluation.baselines.items():
    yield subject, _plain(common), "", scores


def _plain(common: Mapping[str, Any]) -> dict[str, Any]:
  """The fields that apply to a baseline, which has no weights and no latents."""
  return {name: common[name] for name in ("split", "num_clips", "clip", "conditioning_indices") if name in common}
