"""`vidgen evaluate`: scores of a run's clips, compared with those of trivial predictions."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags, logging

from vidgen_jax.buckets import AnyPath, read_text, user_path
from vidgen_jax.commands import conditioning_flags, distributed_flags, metric_flags
from vidgen_jax.commands.flag_parsing import define_config, values_of
from vidgen_jax.core.config import MAX_SEED
from vidgen_jax.data.records import open_clips
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.config import ExperimentConfig, from_config_dict
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.follow import BEST_FOLDER, follow
from vidgen_jax.runs.sampling.samplers import with_conditioning_indices
from vidgen_jax.runs.scoring import curve_text, score_run
from vidgen_jax.runs.workdir import check_same_model, load_config, load_weights
from vidgen_jax.scores.feature_collector import FeatureCollector
from vidgen_jax.scores.flow_baseline import load_flow_baseline
from vidgen_jax.scores.registry import METRICS, SELECTION_DIRECTIONS
from vidgen_jax.scores.report import Score, append_scores, frames_text, score_table
from vidgen_jax.scores.set_metrics import set_metrics

SUMMARY = """Scores a run's predictions and, for comparison, trivial baselines.

Needs --workdir of a run and its data set. Computes PSNR, SSIM, content distance and, with evaluation.object_tracking,
the position of the object; with --networks also FVD, KVD, FID, clip Frechet distance, inception score and diversity.
Prints a table, appends all scores with their protocols to scores.jsonl in the workdir, and writes a contact sheet and a
GIF to workdir/evaluation.
For models with any conditioning frames (sr_cgan), set them with --task or --conditioning_indices; the reconstructed
conditioning frames and a naive interpolation of latents are scored too.
With --follow, scores each checkpoint of a run that is being trained, until the last one.
Example: vidgen evaluate --workdir=runs/shapes --samples=10 --num_clips=256 --networks=classifier.safetensors
Example: vidgen evaluate --workdir=runs/any --task=predict --samples=50"""

BUCKET_FLAGS = ("workdir",)

SCORES_FILE = "scores.jsonl"
IMAGES_FOLDER = "evaluation"


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  values: dict[str, Any] = {"flag_values": flag_values}
  define_config(flag_values, help_text="other data or evaluation settings than the run's")
  flags.DEFINE_string("workdir", None, "folder of the run", **values)
  flags.DEFINE_integer("step", None, "step of the checkpoint; the latest by default", **values)
  flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "averaged or live weights", **values)
  text = "statistics pooled over many batches, or those of each batch of samples"
  flags.DEFINE_enum("batch_norm", "standing", ["standing", "batch"], text, **values)
  for name, meaning in {
    "samples": "samples per clip; with several, the best of them is scored too",
    "num_clips": "number of evaluation clips; 0 for all",
    "num_frames": "length of the clips, conditioning frames included; 0 for the trained length",
  }.items():
    text = f"{meaning}; config.evaluation.{name} by default"
    flags.DEFINE_integer(name, None, text, lower_bound=int(name == "samples"), **values)
  text = "width of the latents' truncation, negative for none; config.evaluation.truncation by default"
  flags.DEFINE_float("truncation", None, text, **values)
  flags.DEFINE_string("split", None, "split of the data set; config.evaluation.split by default", **values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets, if not the run's", **values)
  flags.DEFINE_integer("seed", 0, "seed of latents and resamples", lower_bound=0, upper_bound=MAX_SEED, **values)
  conditioning_flags.define_conditioning_flags(flag_values)
  metric_flags.define_network_flags(flag_values)
  metric_flags.define_score_flags(flag_values)
  text = "pwc_net weights for the baseline that interpolates along optical flow; pyramidal Lucas-Kanade by default"
  flags.DEFINE_string("flow_weights", None, text, **values)
  flags.DEFINE_bool("follow", False, "scores all checkpoints as they appear, until the last", **values)
  known = ", ".join(SELECTION_DIRECTIONS)
  text = f"--follow: keeps the best checkpoint by this metric in workdir/{BEST_FOLDER}: {known}"
  flags.DEFINE_string("best_metric", "", text, **values)
  flags.DEFINE_float("poll", 10.0, "--follow: seconds between two checks", **values)
  flags.DEFINE_float("patience", 3600.0, "--follow: ends after this many seconds without a new checkpoint", **values)
  distributed_flags.define(flag_values)
  flags.mark_flag_as_required("workdir", **values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  _check_follow_flags(flag_values)
  workdir = user_path(flag_values.workdir)
  enable_compilation_cache()
  distributed_flags.join(flag_values)
  config = _config(flag_values)
  check_same_model(flag_values.workdir, config)
  experiment = build_experiment(config)
  options = generation.sampling_options(experiment, **values_of(flag_values, "num_frames", "truncation"))
  collector = FeatureCollector(metric_flags.extractors(flag_values), options=metric_flags.set_options(flag_values))
  flow = load_flow_baseline(flag_values.flow_weights)
  indices = experiment.algorithm.conditioning_indices(options.num_frames)
  _check_scores(config, options, indices, collector, best_metric=flag_values.best_metric)

  def score(folder: str, step: int | None) -> list[Score]:
    trained = load_weights(folder, experiment, step=step, weights=flag_values.weights)
    settings = values_of(flag_values, "batch_norm", "seed")
    scores, curves = score_run(
      trained, options=options, folder=workdir / IMAGES_FOLDER, collector=collector, flow=flow, **settings
    )
    if jax.process_index() == 0:
      sys.stdout.write("\n\n".join(filter(None, [score_table(scores), curve_text(curves)])) + "\n")
      sys.stdout.flush()
      append_scores(workdir / SCORES_FILE, [*scores, *curves])
      logging.info("appended %d scores to %s", len(scores) + len(curves), workdir / SCORES_FILE)
    return [*scores, *curves]

  if not flag_values.follow:
    score(flag_values.workdir, flag_values.step)
    return
  following: dict[str, Any] = {"last_step": config.train.num_steps, "metric": flag_values.best_metric}
  following |= values_of(flag_values, "poll", "patience")
  terms = _terms(config, flag_values, options) | {"conditioning_indices": frames_text(indices)}
  scored = _scored_steps(workdir / SCORES_FILE, terms, [extractor.hash for extractor in collector.extractors])
  follow(flag_values.workdir, score, scored=scored, terms=terms, **following)


def _check_follow_flags(flag_values: flags.FlagValues) -> None:
  if flag_values.follow and flag_values.step is not None:
    raise UserError("--step selects one checkpoint, --follow takes all; leave one of them out")
  for name in ("best_metric", "poll", "patience"):
    if flag_values[name].present and not flag_values.follow:
      raise UserError(f"--{name} needs --follow")


def _check_scores(
  config: ExperimentConfig,
  options: SampleOptions,
  indices: Sequence[int],
  collector: FeatureCollector,
  *,
  best_metric: str,
) -> None:
  """Checks, before hours of sampling, that the clips fit the metrics and the requested scores can be computed."""
  if len(indices) == options.num_frames:
    raise UserError("all frames are conditioning frames, so none is left to be scored; choose fewer")
  evaluation, size = config.evaluation, config.data.resolution
  names = scoring.metric_names(indices, tracking=evaluation.object_tracking)
  scoring.check_frame_size(names, frame_size=(size, size))
  known = {METRICS[name].row for name in names} & set(SELECTION_DIRECTIONS)
  for extractor in collector.extractors:
    extractor.check((options.num_frames, size, size, config.data.channels))
    known |= {metric.row for metric in set_metrics(extractor.network, collector.options, samples=evaluation.samples)}
  fewest = max(2, collector.options.splits)
  if collector.extractors and 0 < evaluation.num_clips < fewest:
    too_few = f"--num_clips={evaluation.num_clips} is too few for the scores of --networks"
    raise UserError(f"{too_few}; give {fewest} or more")
  if best_metric in SELECTION_DIRECTIONS and best_metric not in known:
    found = ", ".join(sorted(known))
    raise UserError(f"--best_metric={best_metric} is not among the scores, which have {found}; see --networks")


def _terms(config: ExperimentConfig, flag_values: flags.FlagValues, options: SampleOptions) -> dict[str, Any]:
  """Fields of the scores that are known in advance."""
  data = dataclasses.replace(config.evaluation_data, num_frames=options.num_frames)
  available, wanted = len(open_clips(data, config.evaluation.split)), config.evaluation.num_clips
  return {
    **values_of(flag_values, "weights", "batch_norm", "seed"),
    "split": config.evaluation.split,
    "num_clips": min(available, wanted or available),
    "samples": config.evaluation.samples,
    "truncation": options.truncation,
    "clip": f"{options.num_frames}x{data.resolution}x{data.resolution}x{data.channels}",
  }


def _scored_steps(path: AnyPath, terms: Mapping[str, Any], hashes: Sequence[str]) -> list[int]:
  """Steps that the file has scores of, on these terms and by all of these networks."""
  found: dict[int, set[str | None]] = {}
  for line in (read_text(path) or "").splitlines():
    try:
      row = json.loads(line)
    except ValueError:  # A killed process may leave an incomplete line.
      continue
    if row.get("step") is not None and all(row.get(name) == value for name, value in terms.items()):
      found.setdefault(row["step"], set()).add(row.get("extractor_hash"))
  return sorted(step for step, known in found.items() if known.issuperset([None, *hashes]))


def _config(flag_values: flags.FlagValues) -> ExperimentConfig:
  """The config of --config or of the run, with the values of other flags."""
  config = load_config(flag_values.workdir) if flag_values.config is None else from_config_dict(flag_values.config)
  indices = conditioning_flags.conditioning_indices(flag_values, config)
  if indices is not None:
    config = with_conditioning_indices(config, indices)
  data = _replace_set(config.data, data_dir=flag_values.data_dir)
  evaluation = _replace_set(config.evaluation, **values_of(flag_values, "split", "samples", "num_clips"))
  return dataclasses.replace(config, data=data, evaluation=evaluation)


def _replace_set(settings: Any, **changes: Any) -> Any:
  return dataclasses.replace(settings, **{name: value for name, value in changes.items() if value is not None})
