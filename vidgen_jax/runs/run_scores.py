"""The scores of a run's clips: what is computed for every clip and frame, and for the set as a whole."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging

from vidgen_jax.gans import SampleOptions
from vidgen_jax.buckets import AnyPath
from vidgen_jax.runs import generation, scoring
from vidgen_jax.scores.feature_collector import FeatureCollector
from vidgen_jax.runs.scoring import Evaluation
from vidgen_jax.scores.metrics.best_of import BestOf
from vidgen_jax.scores.metrics.bootstrap import mean_interval
from vidgen_jax.scores.metrics.report import Score, ScoreTable, frames_text
from vidgen_jax.runs.workdir import Trained, check_label_map

PROTOCOLS = {
  "psnr": ("psnr", "frame_mean", "dB"),
  "psnr_pooled": ("psnr", "clip_mse", "dB"),
  "ssim": ("ssim", "frame_mean", ""),
  "centroid_error": ("centroid_error", "frames with both objects", "px"),
  "penalised_centroid_error": ("centroid_error", "no object costs half the diagonal", "px"),
  "presence": ("presence", "share of frames with an object", ""),
  "anchor_psnr": ("anchor_psnr", "conditioning frames as the model makes them", "dB"),
}
"""What `scoring.score` calls a metric: its name in reports, its protocol, its unit."""


def score_run(
  trained: Trained,
  *,
  options: SampleOptions,
  folder: AnyPath,
  collector: FeatureCollector,
  batch_norm: str = "standing",
  seed: int = 0,
) -> tuple[ScoreTable, list[Score]]:
  """Scores clips as `config.evaluation` and `config.data.eval_split` say, and draws some.

  Args:
    trained: the weights.
    options: length and truncation.
    folder: for the contact sheet and the GIF.
    collector: of the scores of sets.
    batch_norm: 'standing' or 'batch', see `generation.predict`.
    seed: of the latents.

  Returns:
    Scores over whole clips, and those of every frame by itself.

  Raises:
    UserError: if the data set is missing, the classes that the model knows by their labels are not its classes, or the
      disk is full.
  """
  experiment, nets = trained.experiment, trained.nets
  check_label_map(trained)
  settings = experiment.config.evaluation
  batches = generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=settings.num_clips)
  imaged = next(batches)  # Before anything is compiled, so that a missing data set or split is told at once.
  if batch_norm == "standing":
    logging.info("standing statistics over %d batches", settings.standing_batches)
    key, passes = generation.standing_statistics_key(experiment), settings.standing_batches
    nets = generation.prepare_nets(experiment, nets, key, options=options, num_batches=passes)
  key = jax.random.key(seed)
  conditioning_indices = experiment.algorithm.conditioning_indices(options.num_frames)
  known, first = generation.conditioning_batch(imaged, conditioning_indices), generation.sample_key(key, 0, 0)
  prediction = generation.predict(experiment, nets, known, first, options=options, batch_norm=batch_norm)
  if jax.process_index() == 0:
    truth, step = imaged["video"], trained.step
    images = scoring.draw_images(folder, step, prediction=prediction, truth=truth, conditioning_indices=conditioning_indices)
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
    observer=collector,
  )
  common = {"split": experiment.config.data.eval_split, "num_clips": evaluation.num_clips, "step": trained.step}
  common |= {"weights": trained.weights, "batch_norm": batch_norm, "truncation": options.truncation, "seed": seed}
  common |= {"conditioning_indices": frames_text(conditioning_indices)}
  shape = {"clip": "x".join(map(str, imaged["video"].shape[1:]))}
  table = clip_scores(evaluation, common | shape)
  for score in collector.scores(model_fields=common, plain_fields=_plain(common)):
    table.add(score)
  return table, list(frame_scores(evaluation, common | shape))


def clip_scores(evaluation: Evaluation, common: dict[str, Any]) -> ScoreTable:
  """One score for every subject and metric: the mean over clips, and for the model also of the best samples.

  Args:
    evaluation: of the model and the baselines.
    common: fields of `Score` that hold for the model; baselines take those that make sense for them.
  """
  table = ScoreTable()
  for subject, fields, aggregate, values in _aggregates(evaluation, common):
    for name, (metric, protocol, unit) in PROTOCOLS.items():
      if name not in values or (name in scoring.WITHOUT_BEST and aggregate.startswith("best")):
        continue
      clips = np.array([scoring.mean_of_known(clip) for clip in values[name].reshape(len(values[name]), -1)])
      table.add(
        Score(
          subject=subject,
          metric=metric,
          value=scoring.mean_of_known(clips),
          unit=unit,
          protocol=", ".join(filter(None, [protocol, aggregate])),
          interval=mean_interval(clips),
          **fields,
        )
      )
  return table


def frame_scores(evaluation: Evaluation, common: dict[str, Any]) -> Iterator[Score]:
  """PSNR and SSIM of every generated frame, named by its 0-based index in the clip; arguments as in `clip_scores`."""
  for subject, fields, aggregate, values in _aggregates(evaluation, common):
    for name in ("psnr", "ssim"):
      if name not in values:
        continue
      for index, frame in zip(evaluation.frames, values[name].T, strict=True):
        yield Score(
          subject=subject,
          metric=f"{name}_frame_{index}",
          value=scoring.mean_of_known(frame),
          unit=PROTOCOLS[name][2],
          protocol=", ".join(filter(None, ["one frame", aggregate])),
          **fields,
        )


def curve_text(scores: list[Score]) -> str:
  """The result of `frame_scores` as a table: a line for each subject, a column for each frame; '' without scores."""
  if not scores:
    return ""
  curves: dict[tuple[str, str, str], list[float]] = {}
  frames: dict[str, None] = {}
  for score in scores:
    metric, _, frame = score.metric.partition("_frame_")
    _, _, aggregate = score.protocol.partition(", ")
    frames[frame] = None
    curves.setdefault((metric, score.subject, aggregate), []).append(score.value)
  heads = {key: " ".join(filter(None, [key[0], key[1], f"({key[2]})" if key[2] else ""])) for key in curves}
  width = max(map(len, heads.values()), default=0)
  lines = [" ".join([f"{'by frame':<{width}}", *(f"{f't={frame}':>8}" for frame in frames)])]
  lines += [" ".join([f"{heads[key]:<{width}}", *(f"{v:8.4g}" for v in values)]) for key, values in curves.items()]
  return "\n".join(lines)


def _aggregates(
  evaluation: Evaluation, common: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], str, dict[str, np.ndarray]]]:
  """(subject, fields of its scores, how samples were brought to one number, values by metric)."""
  model: BestOf = evaluation.model
  count = model.num_samples
  fields = common | {"samples": count}
  yield "model", fields, f"mean of {count} samples" if count > 1 else "", model.mean
  if count > 1:
    yield "model", fields, f"best of {count} samples", model.best
  plain = _plain(common)
  for subject, baseline in evaluation.baselines.items():
    yield subject, plain, "", baseline.mean


def _plain(common: dict[str, Any]) -> dict[str, Any]:
  """The fields that hold for a baseline, which has neither weights nor latents."""
  return {name: common[name] for name in ("split", "num_clips", "clip", "conditioning_indices") if name in common}
