"""`vidgen evaluate`: scores of a run's predictions, beside those of predictors that know nothing."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags, logging
from ml_collections import config_flags

from vidgen_jax.buckets import AnyPath, read_text, user_path
from vidgen_jax.commands import conditioning_flags, distributed_flags, metric_flags
from vidgen_jax.data import pipeline
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.parallel import startup
from vidgen_jax.runs import config as configs
from vidgen_jax.runs import experiment as experiments
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs import workdir as workdirs
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.follow import BEST_FOLDER, HIGHER_IS_BETTER, FollowOptions, follow
from vidgen_jax.runs.run_scores import curve_text, score_run
from vidgen_jax.runs.sampling.anchors import with_given_frames
from vidgen_jax.scores.extraction import FeatureExtractor
from vidgen_jax.scores.feature_collector import FeatureCollector
from vidgen_jax.scores.metrics.report import Score, ScoreTable, frames_text
from vidgen_jax.scores.set_metrics import SetOptions, distance_names

SUMMARY = """Scores a run's predictions beside trivial baselines.

Needs --workdir of a run, and its data set. PSNR, SSIM, content distance and, where an object is tracked, its place;
with --networks also FVD, KVD, FID, clip Frechet distance, inception score and diversity. Prints a table, appends every
score with its protocol to scores.jsonl in the workdir and puts a contact sheet and a GIF into workdir/evaluation.
A model that takes frames at any times (sr_cgan) is given those of --task or --conditioning_indices; how well it matches them,
and decoded straight lines between their latents, are scored too.
With --follow it scores every checkpoint of a run that is being trained elsewhere, until the last.
Example: vidgen evaluate --workdir=runs/shapes --samples=10 --num_clips=256 --networks=classifier.safetensors
Example: vidgen evaluate --workdir=runs/any --task=predict --samples=50"""

BUCKET_FLAGS = ("workdir",)

SCORES_FILE = "scores.jsonl"
IMAGES_FOLDER = "evaluation"


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
    "num_frames": "length of the clips, the conditioning frames included; 0 for the trained length",
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
  flags.DEFINE_integer("seed", 0, "of latents and resamples", lower_bound=0, flag_values=flag_values)
  conditioning_flags.define_conditioning_flags(flag_values)
  metric_flags.define_network_flags(flag_values)
  metric_flags.define_score_flags(flag_values)
  flags.DEFINE_bool("follow", False, "scores each checkpoint as it appears, to the last", flag_values=flag_values)
  flags.DEFINE_string(
    "best_metric",
    "",
    f"--follow: keeps the best checkpoint by it in workdir/{BEST_FOLDER}: {', '.join(HIGHER_IS_BETTER)}",
    flag_values=flag_values,
  )
  flags.DEFINE_float("poll", 10.0, "--follow: seconds between two looks", flag_values=flag_values)
  flags.DEFINE_float(
    "patience", 3600.0, "--follow: ends after so many seconds without a new checkpoint", flag_values=flag_values
  )
  distributed_flags.define(flag_values)
  flags.mark_flag_as_required("workdir", flag_values=flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  _check_follow_flags(flag_values)
  workdir = user_path(flag_values.workdir)
  startup.enable_compilation_cache()
  distributed_flags.join(flag_values)
  config = _config(flag_values)
  workdirs.check_same_model(flag_values.workdir, config)
  experiment = experiments.build(config)
  options = generation.sampling_options(
    experiment, num_frames=flag_values.num_frames, truncation=flag_values.truncation
  )
  extractors = metric_flags.extractors(flag_values)
  size = config.data.resolution
  for extractor in extractors:
    extractor.check((options.num_frames, size, size, config.data.channels))
  set_options = metric_flags.set_options(flag_values)
  conditioning_indices = experiment.algorithm.conditioning_indices(options.num_frames)
  if len(conditioning_indices) == options.num_frames:
    raise UserError("all frames are given, which leaves none to be scored; give fewer")
  names = scoring.metric_names(conditioning_indices, tracking=config.evaluation.object_tracking)
  _check_scores(flag_values, config, extractors, set_options, names=names)
  collector = FeatureCollector(extractors, options=set_options)

  def score(folder: str, step: int | None) -> list[Score]:
    trained = workdirs.load_weights(folder, experiment, step=step, weights=flag_values.weights)
    table, curves = score_run(
      trained,
      options=options,
      folder=workdir / IMAGES_FOLDER,
      collector=collector,
      batch_norm=flag_values.batch_norm,
      seed=flag_values.seed,
    )
    return _report(workdir / SCORES_FILE, table, curves)

  if flag_values.follow:
    following = FollowOptions(
      last_step=config.train.num_steps,
      metric=flag_values.best_metric,
      poll=flag_values.poll,
      patience=flag_values.patience,
    )
    hashes = [extractor.hash for extractor in extractors]
    terms = _terms(config, flag_values, options) | {"conditioning_indices": frames_text(conditioning_indices)}
    scored = _scored_steps(workdir / SCORES_FILE, terms, hashes)
    follow(flag_values.workdir, score, scored=scored, options=following, terms=terms)
  else:
    score(flag_values.workdir, flag_values.step)


def _report(path: AnyPath, table: ScoreTable, curves: list[Score]) -> list[Score]:
  scores = [*table.scores, *curves]
  if jax.process_index() == 0:
    sys.stdout.write("\n\n".join(filter(None, [table.text(), curve_text(curves)])) + "\n")
    sys.stdout.flush()
    ScoreTable(scores).write_json_lines(path)
    logging.info("appended %d scores to %s", len(scores), path)
  return scores


def _check_follow_flags(flag_values: flags.FlagValues) -> None:
  """A flag that would be ignored is an error."""
  if flag_values.follow and flag_values.step is not None:
    raise UserError("--step is of one checkpoint, --follow takes all; leave one of them out")
  for name in ("best_metric", "poll", "patience"):
    if flag_values[name].present and not flag_values.follow:
      raise UserError(f"--{name} belongs to --follow; leave it out or give both")


def _check_scores(
  flag_values: flags.FlagValues,
  config: ExperimentConfig,
  extractors: list[FeatureExtractor],
  options: SetOptions,
  *,
  names: Sequence[str],
) -> None:
  """Tells before hours of sampling what could not be scored after them."""
  evaluation, fewest = config.evaluation, max(2, options.splits)
  if extractors and 0 < evaluation.num_clips < fewest:
    raise UserError(
      f"--num_clips={evaluation.num_clips} is too few for the scores of --networks; give {fewest} or more"
    )
  known = set(names) & set(HIGHER_IS_BETTER)
  for extractor in extractors:
    frechet, kernel = distance_names(extractor.network)
    known |= {frechet, kernel, "inception_score"}
    known |= {f"{frechet}_infinity"} if options.extrapolate else set()
    known |= {"diversity"} if evaluation.samples > 1 else set()
  metric = flag_values.best_metric
  if metric in HIGHER_IS_BETTER and metric not in known:
    raise UserError(
      f"--best_metric={metric} is not among the scores, which have {', '.join(sorted(known))}; see --networks"
    )


def _terms(config: ExperimentConfig, flag_values: flags.FlagValues, options: SampleOptions) -> dict[str, Any]:
  """Fields of the scores to come."""
  data = dataclasses.replace(config.data, num_frames=options.num_frames)
  available, wanted = pipeline.num_eval_clips(data), config.evaluation.num_clips
  return {
    **{name: flag_values[name].value for name in ("weights", "batch_norm", "seed")},
    "split": data.eval_split,
    "num_clips": min(available, wanted or available),
    "samples": config.evaluation.samples,
    "truncation": options.truncation,
    "clip": f"{options.num_frames}x{data.resolution}x{data.resolution}x{data.channels}",
  }


def _scored_steps(path: AnyPath, terms: Mapping[str, Any], hashes: list[str]) -> list[int]:
  """Steps whose scores are in the file already, on the same terms and by all of these networks."""
  found: dict[int, set[str | None]] = {}
  for line in (read_text(path) or "").splitlines():
    try:
      row = json.loads(line)
    except ValueError:  # cut off when a process was killed
      continue
    of_a_step = isinstance(row, dict) and row.get("step") is not None
    if of_a_step and all(row.get(name) == value for name, value in terms.items()):
      found.setdefault(row["step"], set()).add(row.get("extractor_hash"))
  return sorted(step for step, known in found.items() if known.issuperset([None, *hashes]))


def _config(flag_values: flags.FlagValues) -> ExperimentConfig:
  """The run's config or the one that was given, with what the flags change."""
  if flag_values.config is None:
    config = workdirs.load_config(flag_values.workdir)
  else:
    config = configs.from_config_dict(flag_values.config)
  data = {"eval_split": flag_values.split, "data_dir": flag_values.data_dir}
  evaluation = {"samples": flag_values.samples, "num_clips": flag_values.num_clips}
  conditioning_indices = conditioning_flags.conditioning_indices(flag_values, config)
  if conditioning_indices is not None:
    config = with_given_frames(config, conditioning_indices)
  return dataclasses.replace(
    config, data=_with_known(config.data, data), evaluation=_with_known(config.evaluation, evaluation)
  )


def _with_known(settings: Any, changes: dict[str, Any]) -> Any:
  return dataclasses.replace(settings, **{name: value for name, value in changes.items() if value is not None})
