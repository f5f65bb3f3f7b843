"""Scores of a run by the protocol in its config, which may repeat the evaluation."""

from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

from vidgen_jax.buckets import AnyPath
from vidgen_jax.data import records
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.config import sampling_means
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.workdir import Trained, check_data
from vidgen_jax.scores.feature_collector import MODEL, FeatureCollector
from vidgen_jax.scores.flow_baseline import FlowBaseline
from vidgen_jax.scores.perceptual import PerceptualDistance
from vidgen_jax.scores.registry import SELECTION_DIRECTIONS
from vidgen_jax.scores.report import Score, frames_text, mean_of_repeats


def protocol_fields(
  experiment: Experiment, options: SampleOptions, *, num_windows: int, weights: str, batch_norm: str, seed: int
) -> dict[str, Any]:
  """The fields of the model's scores that are known before sampling, except for the number of samples.

  `num_windows` is the number of evaluation windows, which `check_scoring` returns. If the real clips are stored with
  loss, a warning is logged, since published scores are those of original frames.

  Raises:
    UserError: the data set is missing, or clips from noise are requested of a model with conditioning frames.
  """
  config, indices = experiment.config, experiment.algorithm.conditioning_indices(options.num_frames)
  settings, data = config.evaluation, config.evaluation_data
  if settings.num_generated and indices:
    raise UserError(
      f"evaluation.num_generated={settings.num_generated}: the model continues given frames; for more clips set "
      "evaluation.samples, or data.eval_window=all"
    )
  if lossy := records.load_info(data.name, data.data_dir).is_lossy:
    logging.warning(
      "%s", f"data set {data.name!r} is stored as JPEG, which changes scores; build it with --encoding=png"
    )
  apart = f" {data.eval_window_stride} frames apart" if data.eval_window == "all" else ""
  stride = f"every {data.frame_stride} frames, " if data.frame_stride > 1 else ""
  means = sampling_means(config)
  fields = {
    "data": data.name,
    "split": settings.split,
    "window": f"{data.eval_window}{apart}, {stride}{data.framing}",
    "num_clips": min(num_windows, settings.num_clips or num_windows),
    "lossy": lossy or None,
    "clip": f"{options.num_frames}x{data.resolution}x{data.resolution}x{data.channels}",
    "conditioning_indices": frames_text(indices),
    "pooled": settings.pool_samples or None,
    "repeats": settings.repeats if settings.repeats > 1 else None,
    "truncation": options.truncation,
    "sampling_means": ",".join(f"{mean:.15g}" for mean in means) if any(means) else None,
    "weights": weights,
    "batch_norm": batch_norm,
    "standing_data": config.standing_data.name if batch_norm == "standing" else None,
    "seed": seed,
  }
  return fields | ({"num_generated": settings.num_generated * settings.samples} if settings.num_generated else {})


def score_run(
  trained: Trained,
  fields: Mapping[str, Any],
  *,
  options: SampleOptions,
  folder: AnyPath,
  collector: FeatureCollector,
  flow: FlowBaseline | None = None,
  lpips: PerceptualDistance | None = None,
  strict_data: bool = False,
) -> tuple[list[Score], list[Score]]:
  """Scores clips as `config.evaluation` and `fields`, the result of `protocol_fields`, define, and draws some of them.

  Each of `evaluation.repeats` evaluations has its own standing statistics, and the seed of the first plus its index.
  The contact sheet and the GIF of the first are written to `folder`.

  Returns:
    Scores of whole clips and sets; scores of each frame.

  Raises:
    UserError: the data set is missing or has other classes than the model, the frames are too small, or the disk is
      full; with `strict_data` also if the clips of the training data set have changed, which is a warning otherwise.
  """
  experiment, settings = trained.experiment, trained.experiment.config.evaluation
  check_data(trained, strict=strict_data)
  fields = {**fields, "step": trained.step}
  sampling: dict[str, Any] = {"options": options, "batch_norm": fields["batch_norm"]}
  found: list[list[Score]] = []
  curves: list[list[Score]] = []
  for repeat in range(settings.repeats):
    nets = trained.nets
    if fields["batch_norm"] == "standing":
      nets = generation.prepare_nets(experiment, nets, options=options, repeat=repeat)
    key = jax.random.key(fields["seed"] + repeat)
    if repeat == 0:
      batches = generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=settings.num_clips)
      first_key = generation.sample_key(key, 0, 0)
      scoring.draw_images(folder, trained.step, experiment, nets, next(batches), first_key, **sampling)
    logging.info("drawing and scoring %d samples per clip", settings.samples)
    evaluation = scoring.evaluate(
      experiment,
      nets,
      key,
      num_clips=settings.num_clips,
      samples=settings.samples,
      num_generated=settings.num_generated,
      collector=collector,
      flow=flow,
      lpips=lpips,
      with_baselines=repeat == 0,
      **sampling,
    )
    plain = scoring.plain_fields(fields)
    sets = collector.scores(model_fields=fields, plain_fields=plain, baselines=repeat == 0)
    found.append([*scoring.clip_scores(evaluation, fields), *sets])
    curves.append(list(scoring.frame_scores(evaluation, fields)))
    if settings.repeats > 1:
      logging.info("evaluation %d of %d: %s", repeat + 1, settings.repeats, _values_text(found[-1]))
  return mean_of_repeats(found), mean_of_repeats(curves)


def _values_text(scores: list[Score]) -> str:
  """The model's scores in one line: 'fvd 25.7, inception_score 12.5'."""
  shown = [score for score in scores if score.subject == MODEL and score.metric in SELECTION_DIRECTIONS]
  return ", ".join(f"{score.metric} {score.value:.5g}" for score in shown)
