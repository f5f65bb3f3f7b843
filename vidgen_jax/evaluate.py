"""`vidgen evaluate`: scores of a run's predictions, beside those of predictors that know nothing."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from ml_collections import config_flags

from vidgen_jax import config as configs
from vidgen_jax import scoring, workdir
from vidgen_jax.algorithms import SampleOptions
from vidgen_jax.config import ExperimentConfig
from vidgen_jax.metrics.best_of import BestOf
from vidgen_jax.metrics.report import Score, ScoreTable
from vidgen_jax.observe.pictures import save_prediction_pictures
from vidgen_jax.parallel import startup
from vidgen_jax.scoring import Evaluation
from vidgen_jax.workdir import Trained

SUMMARY = """Scores a run's predictions (PSNR, SSIM; where an object is tracked its place) beside trivial baselines.

Needs --workdir of a run, and its data set. Prints a table, appends every score with its protocol to scores.jsonl
in the workdir and puts a contact sheet and a GIF into workdir/evaluation.
Example: vidgen evaluate --workdir=runs/shapes --samples=10 --num_clips=256"""

SCORES_FILE = "scores.jsonl"
PICTURES_FOLDER = "evaluation"
NUM_PICTURED_CLIPS = 8
NUM_RESAMPLES = 1000

PROTOCOLS = {
  "psnr": ("psnr", "frame_mean", "dB"),
  "psnr_pooled": ("psnr", "clip_mse", "dB"),
  "ssim": ("ssim", "frame_mean", ""),
  "centroid_error": ("centroid_error", "frames with both objects", "px"),
  "penalised_centroid_error": ("centroid_error", "no object costs half the diagonal", "px"),
  "presence": ("presence", "share of frames with an object", ""),
}
"""What `scoring.score` calls a metric: its name in reports, its protocol, its unit."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  config_flags.DEFINE_config_file(
    "config",
    None,
    "FILE.py:VARIANT with other data or evaluation settings; the run's own by default",
    flag_values=flag_values,
  )
  flags.DEFINE_string("workdir", None, "folder of the run", flag_values=flag_values)
  flags.DEFINE_integer("step", None, "of the checkpoint; the latest by default", flag_values=flag_values)
  flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "averages or live weights", flag_values=flag_values)
  flags.DEFINE_enum(
    "batch_norm",
    "standing",
    ["standing", "batch"],
    "statistics pooled over many batches, or those of each batch of samples itself",
    flag_values=flag_values,
  )
  for name, meaning in {
    "samples": "predictions drawn for each clip, of which the best counts in 'best of' scores",
    "num_clips": "evaluation clips; 0 for all",
    "num_frames": "length of the clips, the given frames included; 0 for the trained length",
  }.items():
    described = f"{meaning}; config.evaluation.{name} by default"
    flags.DEFINE_integer(name, None, described, lower_bound=int(name == "samples"), flag_values=flag_values)
  flags.DEFINE_float(
    "truncation",
    None,
    "latents are cut at +- this; negative for no cut; config.evaluation.truncation by default",
    flag_values=flag_values,
  )
  flags.DEFINE_string("split", None, "of the data set; config.data.eval_split by default", flag_values=flag_values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets, if not the run's", flag_values=flag_values)
  flags.DEFINE_integer("seed", 0, "of the latents", flag_values=flag_values)
  flags.DEFINE_bool("distributed", False, "joins the other processes of a multi-host job", flag_values=flag_values)
  flags.mark_flag_as_required("workdir", flag_values=flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  startup.enable_compilation_cache()
  if flag_values.distributed:
    startup.initialize_distributed()
  config = _config(flag_values)
  trained = workdir.load_trained(flag_values.workdir, config=config, step=flag_values.step, weights=flag_values.weights)
  options = scoring.sampling_options(
    trained.experiment, num_frames=flag_values.num_frames, truncation=flag_values.truncation
  )
  table, curves = evaluate(
    trained,
    options=options,
    folder=Path(flag_values.workdir) / PICTURES_FOLDER,
    batch_norm=flag_values.batch_norm,
    seed=flag_values.seed,
  )
  if jax.process_index() == 0:
    path = Path(flag_values.workdir) / SCORES_FILE
    ScoreTable([*table.scores, *curves]).write_json_lines(path)
    sys.stdout.write(f"{table.text()}\n\n{curve_text(curves)}\n")
    logging.info("appended %d scores to %s", len(table.scores) + len(curves), path)


def evaluate(
  trained: Trained, *, options: SampleOptions, folder: Path, batch_norm: str = "standing", seed: int = 0
) -> tuple[ScoreTable, list[Score]]:
  """Scores clips as `config.evaluation` and `config.data.eval_split` say, and draws some.

  Args:
    trained: the weights.
    options: length and truncation.
    folder: for the contact sheet and the GIF.
    batch_norm: 'standing' or 'batch', see `scoring.predict`.
    seed: of the latents.

  Returns:
    Scores over whole clips, and those of every frame by itself.

  Raises:
    UserError: if the data set is missing or the disk is full.
  """
  experiment, nets = trained.experiment, trained.nets
  settings = experiment.config.evaluation
  clips = scoring.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=settings.num_clips)
  pictured = next(clips)  # Before anything is compiled, so that a missing data set or split is told at once.
  if batch_norm == "standing":
    logging.info("standing statistics over %d batches", settings.standing_batches)
    key, passes = scoring.standing_key(experiment), settings.standing_batches
    nets = scoring.prepare_nets(experiment, nets, key, options=options, num_batches=passes)
  key = jax.random.key(seed)
  first = scoring.sample_key(key, 0, 0)
  prediction = scoring.predict(experiment, nets, pictured, first, options=options, batch_norm=batch_norm)
  if jax.process_index() == 0:
    given, truth = np.split(pictured["video"], [experiment.algorithm.conditioning_frames], axis=1)
    shown = (array[:NUM_PICTURED_CLIPS] for array in (given, prediction, truth))
    pictures = save_prediction_pictures(folder, trained.step, *shown)
    logging.info("contact sheet %s, GIF %s", pictures.sheet_path, pictures.gif_path)
  logging.info("drawing and scoring %d samples per clip", settings.samples)
  evaluation = scoring.evaluate(
    experiment,
    nets,
    key,
    options=options,
    num_clips=settings.num_clips,
    samples=settings.samples,
    batch_norm=batch_norm,
  )
  common = {"split": experiment.config.data.eval_split, "num_clips": evaluation.num_clips, "step": trained.step}
  common |= {"weights": trained.weights, "batch_norm": batch_norm, "truncation": options.truncation, "seed": seed}
  return clip_scores(evaluation, common), list(frame_scores(evaluation, common))


def clip_scores(evaluation: Evaluation, common: dict[str, Any]) -> ScoreTable:
  """One score for every subject and metric: the mean over clips, and for the model also of the best samples.

  Args:
    evaluation: of the model and the baselines.
    common: fields of `Score` that hold for the model; baselines take those that make sense for them.
  """
  table = ScoreTable()
  for subject, fields, aggregate, values in _aggregates(evaluation, common):
    for name, (metric, protocol, unit) in PROTOCOLS.items():
      # A sample that shows the object most often is no better prediction: only the mean says something.
      if name not in values or (name == "presence" and aggregate.startswith("best")):
        continue
      clips = np.array([scoring.mean_of_known(clip) for clip in values[name].reshape(len(values[name]), -1)])
      table.add(
        Score(
          subject=subject,
          metric=metric,
          value=scoring.mean_of_known(clips),
          unit=unit,
          protocol=", ".join(filter(None, [protocol, aggregate])),
          interval=bootstrap_interval(clips),
          **fields,
        )
      )
  return table


def frame_scores(evaluation: Evaluation, common: dict[str, Any]) -> Iterator[Score]:
  """PSNR and SSIM of every predicted frame, '+1' being the first; arguments as in `clip_scores`."""
  for subject, fields, aggregate, values in _aggregates(evaluation, common):
    for name in ("psnr", "ssim"):
      if name not in values:
        continue
      for index, frame in enumerate(values[name].T, start=1):
        yield Score(
          subject=subject,
          metric=f"{name}_frame_+{index}",
          value=scoring.mean_of_known(frame),
          unit=PROTOCOLS[name][2],
          protocol=", ".join(filter(None, ["one frame", aggregate])),
          **fields,
        )


def curve_text(scores: list[Score]) -> str:
  """The result of `frame_scores` as a table: a line for each subject, a column for each frame."""
  curves: dict[tuple[str, str, str], list[float]] = {}
  for score in scores:
    metric = score.metric.split("_frame_")[0]
    _, _, aggregate = score.protocol.partition(", ")
    curves.setdefault((metric, score.subject, aggregate), []).append(score.value)
  heads = {key: " ".join(filter(None, [key[0], key[1], f"({key[2]})" if key[2] else ""])) for key in curves}
  width = max(map(len, heads.values()), default=0)
  count = max(map(len, curves.values()), default=0)
  lines = [" ".join([f"{'by frame':<{width}}", *(f"{f'+{index}':>8}" for index in range(1, count + 1))])]
  lines += [" ".join([f"{heads[key]:<{width}}", *(f"{v:8.4g}" for v in values)]) for key, values in curves.items()]
  return "\n".join(lines)


def bootstrap_interval(clips: np.ndarray, *, seed: int = 0) -> tuple[float, float] | None:
  """The 95 % confidence interval of a mean over clips, by drawing as many clips again and again.

  Args:
    clips: [B], one score a clip; NaN ("no score") is left out.
    seed: of the draws.

  Returns:
    (2.5 %, 97.5 %) percentiles of the means; None for fewer than two clips.
  """
  known = clips[~np.isnan(clips)]
  if len(known) < 2:
    return None
  drawn = np.random.default_rng(seed).integers(len(known), size=(NUM_RESAMPLES, len(known)))
  low, high = np.percentile(known[drawn].mean(axis=1), [2.5, 97.5])
  return float(low), float(high)


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
  # A baseline has neither weights nor latents.
  plain = {name: common[name] for name in ("split", "num_clips")}
  for subject, baseline in evaluation.baselines.items():
    yield subject, plain, "", baseline.mean


def _config(flag_values: flags.FlagValues) -> ExperimentConfig:
  """The run's config or the one that was given, with what the flags change."""
  if flag_values.config is None:
    config = workdir.load_config(flag_values.workdir)
  else:
    config = configs.from_config_dict(flag_values.config)
  data = {"eval_split": flag_values.split, "data_dir": flag_values.data_dir}
  evaluation = {"samples": flag_values.samples, "num_clips": flag_values.num_clips}
  return dataclasses.replace(
    config, data=_with_known(config.data, data), evaluation=_with_known(config.evaluation, evaluation)
  )


def _with_known(settings: Any, changes: dict[str, Any]) -> Any:
  return dataclasses.replace(settings, **{name: value for name, value in changes.items() if value is not None})
