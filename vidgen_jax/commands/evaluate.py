"""`vidgen evaluate`: scores of a run's clips, compared with those of trivial predictions."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags, logging

from vidgen_jax.buckets import AnyPath, user_path
from vidgen_jax.commands import conditioning_flags, dataset_flags, distributed_flags, metric_flags
from vidgen_jax.commands.flag_parsing import check_needs, define_config, values_of
from vidgen_jax.core.config import MAX_SEED
from vidgen_jax.data.records import load_info
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.gans.settings import FROM_DATA
from vidgen_jax.ops.conditioning import frames_needed
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.config import ExperimentConfig, from_config_dict, with_data
from vidgen_jax.runs.data_checks import check_scoring
from vidgen_jax.runs.evaluation import protocol_fields, score_run
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.follow import BEST_FOLDER, follow
from vidgen_jax.runs.sampling.samplers import with_conditioning_indices
from vidgen_jax.runs.scoring import curve_text
from vidgen_jax.runs.workdir import check_same_model, load_config, load_weights
from vidgen_jax.scores.feature_collector import FeatureCollector
from vidgen_jax.scores.flow_baseline import load_flow_baseline
from vidgen_jax.scores.inputs import recorded_inputs
from vidgen_jax.scores.metrics.baselines import has_frames_between
from vidgen_jax.scores.perceptual import PerceptualDistance, load_perceptual_distance
from vidgen_jax.scores.registry import METRICS, SELECTION_DIRECTIONS
from vidgen_jax.scores.report import SCORES_FILE, Score, append_scores, read_scores, score_table
from vidgen_jax.scores.set_metrics import set_metrics

SUMMARY = """Scores a run's predictions and, for comparison, trivial baselines.

Needs --workdir of a run and its data set. Computes PSNR, SSIM, content distance and, with evaluation.object_tracking,
the position of the object; with --lpips also LPIPS, with --networks FVD, KVD, FID, clip Frechet distance, inception
score and diversity.
Prints a table, appends all scores with their protocols to scores.jsonl in the workdir, and writes a contact sheet and a
GIF to workdir/evaluation.
For models with any conditioning frames (sr_cgan), set them with --task or --conditioning_indices; the reconstructed
conditioning frames and a naive interpolation of latents are scored too.
--repeats evaluates several times, each time with other standing statistics and latents, and reports means and standard
deviations. Models that generate from noise make --num_generated clips of random classes.
With --all_checkpoints, scores each checkpoint of a run; with --follow also those of a training that is still running,
until the last one. Both use evaluation.selection_split of the training data set unless --data or --split is set, and
--best_metric keeps the best checkpoint in workdir/best, a workdir itself, which is then evaluated on evaluation.split.
Example: vidgen evaluate --workdir=runs/shapes --samples=10 --num_clips=256 --networks=classifier.safetensors
Example: vidgen evaluate --workdir=runs/any --task=predict --samples=50
Example: vidgen evaluate --workdir=runs/actions --networks=c3d.safetensors --samples=1 --num_generated=10000
  --repeats=10
Example: vidgen evaluate --workdir=runs/between --networks=i3d.safetensors --all_checkpoints --best_metric=fvd"""

BUCKET_FLAGS = ("workdir",)

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
    "repeats": "number of evaluations, each with its own standing statistics and seed",
    "num_generated": "number of generated clips, for models that generate from noise; 0 for that of evaluation clips",
    "num_frames": "length of the clips, conditioning frames included; 0 for the trained length",
  }.items():
    text = f"{meaning}; config.evaluation.{name} by default"
    flags.DEFINE_integer(name, None, text, lower_bound=int(name in ("samples", "repeats")), **values)
  text = "width of the latents' truncation, negative for none; config.evaluation.truncation by default"
  flags.DEFINE_float("truncation", None, text, **values)
  text = "scores sets with all samples of all clips in one set; config.evaluation.pool_samples by default"
  flags.DEFINE_bool("pool_samples", None, text, **values)
  dataset_flags.define_dataset_flags(flag_values)
  flags.DEFINE_integer("seed", 0, "seed of latents, splits and halves", lower_bound=0, upper_bound=MAX_SEED, **values)
  conditioning_flags.define_conditioning_flags(flag_values)
  metric_flags.define_network_flags(flag_values)
  metric_flags.define_score_flags(flag_values)
  text = "pwc_net weights for the baseline that interpolates along optical flow; pyramidal Lucas-Kanade by default"
  flags.DEFINE_string("flow_weights", None, text, **values)
  text = "weights of LPIPS (`vidgen weights fetch lpips`): the perceptual distance to the true frames too"
  flags.DEFINE_string("lpips", None, text, **values)
  flags.DEFINE_bool("follow", False, "scores all checkpoints as they appear, until the last", **values)
  flags.DEFINE_bool("all_checkpoints", False, "scores all existing checkpoints", **values)
  known = ", ".join(SELECTION_DIRECTIONS)
  text = f"--follow, --all_checkpoints: keeps the best checkpoint by this metric in workdir/{BEST_FOLDER}: {known}"
  flags.DEFINE_string("best_metric", "", text, **values)
  flags.DEFINE_bool("strict_data", False, dataset_flags.STRICT_DATA, **values)
  text = "--best_metric: allows to select the checkpoint on the clips that results are reported on"
  flags.DEFINE_bool("select_on_test", False, text, **values)
  flags.DEFINE_float("poll", 10.0, "--follow: seconds between two checks", **values)
  flags.DEFINE_float("patience", 3600.0, "--follow: ends after this many seconds without a new checkpoint", **values)
  distributed_flags.define(flag_values)
  flags.mark_flag_as_required("workdir", **values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  _check_flags(flag_values)
  workdir = user_path(flag_values.workdir)
  enable_compilation_cache()
  distributed_flags.join(flag_values)
  config = _config(flag_values)
  experiment = build_experiment(config, trains=False)
  options = generation.sampling_options(experiment, **values_of(flag_values, "num_frames", "truncation"))
  indices = experiment.algorithm.conditioning_indices(options.num_frames)
  fewest = max(2, flag_values.splits) if flag_values.networks else 1
  standing_frames = frames_needed(indices) if flag_values.batch_norm == "standing" else None
  windows = check_scoring(config, num_frames=options.num_frames, standing_frames=standing_frames, fewest=fewest)
  named = values_of(flag_values, "weights", "batch_norm", "seed")
  fields = protocol_fields(experiment, options, num_windows=windows, **named)
  set_options = dataclasses.replace(metric_flags.set_options(flag_values), pool_samples=config.evaluation.pool_samples)
  extractors = metric_flags.extractors(flag_values, c3d_protocol=config.evaluation.c3d_protocol)
  collector = FeatureCollector(extractors, options=set_options, tracking=config.evaluation.object_tracking)
  if flag_values.flow_weights is not None and not has_frames_between(indices, options.num_frames):
    raise UserError("--flow_weights needs a model with frames between conditioning frames; leave it out")
  flow = load_flow_baseline(weights=flag_values.flow_weights)
  lpips = load_perceptual_distance(flag_values.lpips) if flag_values.lpips is not None else None
  _check_scores(config, options, indices, collector, lpips=lpips, best_metric=flag_values.best_metric)
  metric_flags.check_eval_window(flag_values, [e.network for e in extractors], config.data.eval_window)
  info = load_info(config.evaluation_data.name, config.evaluation_data.data_dir)
  inputs = recorded_inputs({"real": {"encoding": info.encoding, "fps": list(info.fps)}})

  def score(folder: str, step: int | None) -> list[Score]:
    trained = load_weights(folder, experiment, step=step, weights=flag_values.weights)
    outputs: dict[str, Any] = {"folder": workdir / IMAGES_FOLDER, "strict_data": flag_values.strict_data}
    scores, curves = score_run(trained, fields, options=options, collector=collector, flow=flow, lpips=lpips, **outputs)
    scores, curves = ([dataclasses.replace(s, inputs=inputs) for s in found] for found in (scores, curves))
    if jax.process_index() == 0:
      sys.stdout.write("\n\n".join(filter(None, [score_table(scores), curve_text(curves)])) + "\n")
      sys.stdout.flush()
      append_scores(workdir / SCORES_FILE, [*scores, *curves])
      logging.info("appended %d scores to %s", len(scores) + len(curves), workdir / SCORES_FILE)
    return [*scores, *curves]

  if not (flag_values.follow or flag_values.all_checkpoints):
    score(flag_values.workdir, flag_values.step)
    return
  following: dict[str, Any] = {"last_step": config.train.num_steps, "metric": flag_values.best_metric}
  following |= {"wait": flag_values.follow, **values_of(flag_values, "poll", "patience")}
  terms = {**fields, "samples": config.evaluation.samples}
  hashes = [extractor.hash for extractor in collector.extractors] + ([lpips.hash] if lpips is not None else [])
  scored = _scored_steps(workdir / SCORES_FILE, terms, hashes)
  follow(flag_values.workdir, score, scored=scored, terms=terms, **following)


def _check_flags(flag_values: flags.FlagValues) -> None:
  """Raises a UserError for flags that exclude each other, or that would be ignored."""
  several = [name for name in ("follow", "all_checkpoints") if flag_values[name].value]
  if len(several) > 1:
    raise UserError("--follow includes the checkpoints of --all_checkpoints; leave one of them out")
  if several and flag_values.step is not None:
    raise UserError(f"--step selects one checkpoint, --{several[0]} takes all; leave one of them out")
  if flag_values["best_metric"].present and not several:
    raise UserError("--best_metric needs --follow or --all_checkpoints")
  needs = {"poll": "follow", "patience": "follow", "select_on_test": "best_metric", "pool_samples": "networks"}
  check_needs(flag_values, needs | metric_flags.NEED_NETWORKS)
  if flag_values.standing_statistics_data is not None and flag_values.batch_norm == "batch":
    raise UserError("--standing_statistics_data and --batch_norm=batch exclude each other; leave one of them out")


def _check_selection(config: ExperimentConfig, reported: ExperimentConfig) -> None:
  """Raises a UserError if a checkpoint would be selected on clips on which its scores are then reported.

  `config` is that of the selection, `reported` the run's.
  """
  data, split = config.evaluation_data.name, config.evaluation.split
  # Published models are selected on training clips too (TrIVD-GAN-FP, 4.1).
  if (data, split) == (config.data.name, config.data.train_split):
    return
  if split == "test" or (data, split) == (reported.evaluation_data.name, reported.evaluation.split):
    raise UserError(
      f"--best_metric would select the checkpoint on split {split!r} of data set {data!r}, on which results are "
      "reported; choose another evaluation.selection_split or --split, or add --select_on_test"
    )


def _check_scores(
  config: ExperimentConfig,
  options: SampleOptions,
  indices: Sequence[int],
  collector: FeatureCollector,
  *,
  lpips: PerceptualDistance | None,
  best_metric: str,
) -> None:
  """Checks, before hours of sampling, that the clips fit the metrics and the requested scores can be computed."""
  if len(indices) == options.num_frames:
    raise UserError("all frames are conditioning frames, so none is left to be scored; choose fewer")
  evaluation, size = config.evaluation, config.data.resolution
  names = scoring.metric_names(indices, tracking=evaluation.object_tracking, lpips=lpips)
  scoring.check_frame_size(names, frame_size=(size, size))
  if lpips is not None:
    if not len(indices):
      raise UserError("--lpips compares with true clips, but the model has no conditioning frames; leave it out")
    lpips.check((size, size))
  known = {METRICS[name].row for name in names} & set(SELECTION_DIRECTIONS)
  for extractor in collector.extractors:
    extractor.check((options.num_frames, size, size, config.data.channels))
    known |= {metric.row for metric in set_metrics(extractor.network, collector.options, samples=evaluation.samples)}
  fewest = max(2, collector.options.splits)
  for name in ("num_clips", "num_generated"):
    if collector.extractors and 0 < (count := getattr(evaluation, name)) < fewest:
      raise UserError(f"--{name}={count} is too few for the scores of --networks; give {fewest} or more")
  if best_metric in SELECTION_DIRECTIONS and best_metric not in known:
    found = ", ".join(sorted(known))
    remedy = "see --networks and `vidgen weights list`"
    raise UserError(f"--best_metric={best_metric} is not among the scores, which have {found}; {remedy}")


def _scored_steps(path: AnyPath, terms: Mapping[str, Any], hashes: Sequence[str]) -> list[int]:
  """Steps that the file has scores of, on these terms and by all of these networks."""
  found: dict[int, set[str | None]] = {}
  for row in read_scores(path):
    if row.get("step") is not None and all(row.get(name) == value for name, value in terms.items()):
      found.setdefault(row["step"], set()).add(row.get("extractor_hash"))
  return sorted(step for step, known in found.items() if known.issuperset([None, *hashes]))


def _config(flag_values: flags.FlagValues) -> ExperimentConfig:
  """The config of --config or of the run, with the values of other flags.

  Raises:
    UserError: the config belongs to another model, the data set of its classes is missing, or --best_metric would
      select on the clips of the results.
  """
  if flag_values.config is not None and flag_values.data_dir is not None:
    flag_values.config.data.data_dir = flag_values.data_dir  # The number of classes may come from the data set.
  config = load_config(flag_values.workdir) if flag_values.config is None else from_config_dict(flag_values.config)
  if flag_values.config is not None and flag_values.config.algorithm.get("num_classes") == FROM_DATA:
    load_info(config.data.name, config.data.data_dir)  # Without the data set, its classes count as one.
  check_same_model(flag_values.workdir, config)
  indices = conditioning_flags.conditioning_indices(flag_values, config)
  if indices is not None:
    config = with_conditioning_indices(config, indices)
  reported, dataset = config, dataset_flags.dataset_options(flag_values)
  if (flag_values.follow or flag_values.all_checkpoints) and dataset["data"] is None and dataset["split"] is None:
    config = config.for_selection()
  config = with_data(config, **dataset)
  if flag_values.best_metric and not flag_values.select_on_test:
    _check_selection(config, reported)
  changes = values_of(flag_values, "samples", "num_clips", "repeats", "num_generated", "pool_samples")
  changes = {name: value for name, value in changes.items() if value is not None}
  return dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, **changes))
