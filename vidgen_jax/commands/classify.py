"""`vidgen classify`: trains a classifier on a data set, and scores synthetic clips with two of them (S3)."""

import dataclasses
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax.commands import distributed_flags
from vidgen_jax.commands.flag_parsing import values_of
from vidgen_jax.core.config import MAX_SEED
from vidgen_jax.data import records
from vidgen_jax.data.config import DEFAULT_DATA_DIR, DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.config import MeshConfig
from vidgen_jax.parallel.mesh import make_mesh
from vidgen_jax.parallel.processes import PREEMPTED_EXIT_CODE, StopSignals, enable_compilation_cache
from vidgen_jax.runs.classifier import TrainedClassifier, classifier_experiment, train_classifier
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.scores.classifier.config import NETWORK_DEFAULTS, ClassifierConfig, window_of
from vidgen_jax.scores.classifier.evaluation import Accuracy, accuracy
from vidgen_jax.scores.extraction import own_preprocessing
from vidgen_jax.scores.metrics.classifier_scores import chance_p_value, fraction_interval, s3_interval, s3_score
from vidgen_jax.scores.networks import NETWORKS
from vidgen_jax.scores.report import Score, append_scores, score_table
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file

SUMMARY = """Trains a video classifier on a data set; with --synthetic, scores that data set's clips by S3.

Needs --data, a built data set with classes and the splits train and test, and --out. OUT/classifier.safetensors and
.json contain the epoch with the best test accuracy; the same command resumes a training that was stopped.
With --synthetic a second classifier is trained on synthetic clips with the same settings (in OUT/synthetic), and
S3 = sqrt(SeR ReS) / ReR is printed and appended to OUT/scores.jsonl: SeR is trained on synthetic and tested on real
clips, ReS the reverse, ReR is real on both sides. Both data sets must have the same classes in the same order.
With --init the classifiers start from weights, such as those of a ResNet-50 trained on ImageNet.
Example: vidgen classify --data=weizmann --synthetic=weizmann_generated --out=runs/s3 --width=16 --resolution=64"""

SCORES_FILE = "scores.jsonl"
SYNTHETIC_FOLDER = "synthetic"
NUM_FRAMES = 16


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the command."""

  def by_network(field: str) -> str:
    return "default: " + ", ".join(f"{name} {network[field]:g}" for name, network in NETWORK_DEFAULTS.items())

  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_string("data", None, "name of a built data set of real clips", **values)
  flags.DEFINE_string("synthetic", None, "name of a built data set of synthetic clips of the same classes", **values)
  flags.DEFINE_string("data_dir", DEFAULT_DATA_DIR, "folder of all data sets", **values)
  flags.DEFINE_string("out", None, "folder of classifiers, checkpoints, metrics and scores", **values)
  text = "trained classifier of --data and the same settings, .safetensors"
  flags.DEFINE_string("classifier", None, text, **values)
  flags.DEFINE_enum("network", ClassifierConfig.network, list(NETWORK_DEFAULTS), "architecture", **values)
  text = f"channels of the first block (c3d: multiple of all); {by_network('width')}"
  flags.DEFINE_float("width", None, text, **values)
  text = "tsn: number of segments of a window, of each of which one frame is used; default: 3 (MVT-GAN: 16 frames)"
  flags.DEFINE_integer("segments", 0, text, lower_bound=0, **values)
  text = "r3d18: stem of Hara et al. (as MVT-GAN), for 16 frames of 32x32 or more, or of torchvision (default)"
  flags.DEFINE_enum("stem", "", ["", "torchvision", "hara"], text, **values)
  text = (
    "weights to start from, made by `vidgen weights import` (not c3d) or this command; of other classes, all but the "
    "last layer"
  )
  flags.DEFINE_string("init", None, text, **values)
  text = f"dropout probability before the last layer; {by_network('dropout')}"
  flags.DEFINE_float("dropout", None, text, **values)
  text = (
    f"frames of a window; default: {NUM_FRAMES}, or the length of the shortest clip of --synthetic if it is shorter"
  )
  flags.DEFINE_integer("num_frames", None, text, lower_bound=1, **values)
  flags.DEFINE_integer("frame_stride", 1, "distance between the frames of a window", **values)
  flags.DEFINE_integer("resolution", 64, "height and width of a window in pixels", **values)
  text = (
    "how frames of --data are resized before the crop, as data.resize of the run; synthetic clips are cropped already"
  )
  flags.DEFINE_enum("resize", DataConfig.resize, ["smallest_side", "squash", "none"], text, **values)
  text = "side of these frames in pixels, as data.resize_to of the run; 0 for --resolution"
  flags.DEFINE_integer("resize_to", 0, text, lower_bound=0, **values)
  flags.DEFINE_integer("channels", 3, "3 for RGB, 1 for luma", **values)
  flags.DEFINE_integer("epochs", 100, "maximum number of epochs", lower_bound=1, **values)
  text = "train steps between two tests; 0 for one pass through the data, small data sets profit from more"
  flags.DEFINE_integer("steps_per_epoch", 0, text, lower_bound=0, **values)
  text = f"clips per step over all devices; {by_network('batch_size')}"
  flags.DEFINE_integer("batch_size", None, text, lower_bound=1, **values)
  flags.DEFINE_float("learning_rate", None, f"initial learning rate; {by_network('learning_rate')}", **values)
  flags.DEFINE_enum("optimizer", ClassifierConfig.optimizer, ["sgd", "adam"], "sgd has momentum 0.9", **values)
  flags.DEFINE_float("weight_decay", ClassifierConfig.weight_decay, "weight decay of kernels", lower_bound=0, **values)
  text = "epochs without a better test accuracy before the learning rate falls to a tenth"
  flags.DEFINE_integer("patience", ClassifierConfig.patience, text, lower_bound=1, **values)
  text = "plateaus that end the training"
  flags.DEFINE_integer("max_reductions", ClassifierConfig.max_reductions, text, lower_bound=1, **values)
  text = "mirror half of the training windows; wrong where left and right matter"
  flags.DEFINE_bool("random_flip", False, text, **values)
  text = "windows of each test clip, evenly spread; 1 is the centre"
  flags.DEFINE_integer("test_windows", ClassifierConfig.test_windows, text, lower_bound=1, **values)
  text = "seed of weights, order, windows and dropout"
  flags.DEFINE_integer("seed", 0, text, lower_bound=0, upper_bound=MAX_SEED, **values)
  distributed_flags.define(flag_values)
  flags.mark_flags_as_required(["data", "out"], **values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, _arguments: list[str]) -> int | None:
  """Runs the command; returns `PREEMPTED_EXIT_CODE` if a signal stopped it."""
  enable_compilation_cache()
  distributed_flags.join(flag_values)
  stop = StopSignals()
  scores = _classify(flag_values, stop)
  if scores is None:
    return None if stop.received == signal.SIGINT else PREEMPTED_EXIT_CODE
  if jax.process_index() == 0:
    path = Path(flag_values.out) / SCORES_FILE
    append_scores(path, scores)
    sys.stdout.write(f"{score_table(scores)}\n")
    logging.info("appended %d scores to %s", len(scores), path)
  return None


def make_config(flag_values: flags.FlagValues, training_data: str, mesh: jax.sharding.Mesh) -> ExperimentConfig:
  """The config of a classifier that is trained on `training_data` and tested on --data."""
  published = NETWORK_DEFAULTS[flag_values.network]
  schedule = ("epochs", "steps_per_epoch", "seed", "optimizer", "weight_decay", "patience", "max_reductions")
  settings = values_of(flag_values, *schedule, "network", "test_windows", "segments", "stem", *published)
  settings |= {name: value for name, value in published.items() if settings[name] is None}
  if flag_values.init is not None:
    settings |= _initial_settings(flag_values.init, flag_values.network)
  window = values_of(flag_values, "frame_stride", "resolution", "channels", "random_flip", "data_dir")
  window["num_frames"] = _window_length(flag_values)
  framing = values_of(flag_values, "resize", "resize_to")
  if training_data == flag_values.data:
    return classifier_experiment(DataConfig(name=training_data, **window, **framing), mesh, **settings)
  settings |= {"test_data": flag_values.data, **{f"test_{name}": value for name, value in framing.items()}}
  return classifier_experiment(DataConfig(name=training_data, **window), mesh, **settings)


def _window_length(flag_values: flags.FlagValues) -> int:
  """--num_frames or its default; raises a UserError if the clips of a split of --synthetic are shorter."""
  length, stride, name = flag_values.num_frames, flag_values.frame_stride, flag_values.synthetic
  if name is None:
    return length or NUM_FRAMES
  lengths = records.load_info(name, flag_values.data_dir).num_frames
  fitting = (min(int(frames.min()) for frames in lengths.values()) - 1) // stride + 1
  if length is None:
    return min(NUM_FRAMES, fitting)
  span = (length - 1) * stride + 1
  for split, frames in lengths.items():
    if frames.max() < span:
      raise UserError(
        f"--num_frames={length} with --frame_stride={stride} needs clips of {span} frames, but those of "
        f"--synthetic={name} have {frames.max()} (split {split!r}); pass --num_frames={fitting} or leave it out"
      )
  return length


def _initial_settings(path: str, network: str) -> dict[str, Any]:
  """The hash of the weights that the training starts from, and the input that they require."""
  weights = read_weight_file(path)
  if weights.network != network:
    raise UserError(
      f"--init={path} holds weights of {weights.network}, not of {network}; pass --network={weights.network}"
    )
  if network == "c3d" and "mean" not in weights.preprocessing:
    raise UserError(
      f"--init={path} is an imported C3D, whose input is BGR minus a mean clip; a training has no such input: start "
      "from a c3d that `vidgen classify` trained, or leave out --init"
    )
  required = own_preprocessing(weights.preprocessing, f"--init={path}")
  return {"init": weights.short_hash, "mean": required.mean, "std": required.std}


def _classify(flag_values: flags.FlagValues, stop: StopSignals) -> list[Score] | None:
  """Trains the classifiers that are not trained yet, and computes the scores; None after SIGTERM or SIGINT."""
  mesh, data, synthetic = make_mesh(MeshConfig()), flag_values.data, flag_values.synthetic
  config = make_config(flag_values, data, mesh)
  if synthetic is not None:  # Raises before the training.
    names = records.load_info(data, config.data.data_dir).class_names
    synthetic_config = make_config(flag_values, synthetic, mesh)
    records.check_class_names(names, synthetic_config.data, what=f"data set {data!r}")
    splits = records.load_info(synthetic, synthetic_config.data.data_dir).num_clips
    split = config.evaluation.split if config.evaluation.split in splits else config.data.train_split
    records.open_clips(synthetic_config.data, split)
  options = {"mesh": mesh, "batch_size": config.train.batch_size, "windows": config.algorithm.test_windows}
  if flag_values.classifier is not None:
    weights = _read_classifier(flag_values.classifier, config)
    tested = accuracy(weights, config.data, config.evaluation.split, **options)
    real = TrainedClassifier(weights=weights, accuracy=tested)
  elif (real := train_classifier(config, flag_values.out, mesh, stop=stop, init=flag_values.init)) is None:
    return None
  _log_accuracy(data, real.accuracy)
  if synthetic is None:
    _is_chance("accuracy", real.accuracy)
    return [_accuracy_score(config, "accuracy", data, real.accuracy, real.weights)]
  folder = str(Path(flag_values.out) / SYNTHETIC_FOLDER)
  trained = train_classifier(synthetic_config, folder, mesh, stop=stop, init=flag_values.init)
  if trained is None:
    return None
  res = accuracy(real.weights, synthetic_config.data, split, **options)
  return _s3_scores(config, real, trained, synthetic, res, split)


def _s3_scores(
  config: ExperimentConfig, real: TrainedClassifier, fake: TrainedClassifier, synthetic: str, res: Accuracy, split: str
) -> list[Score]:
  """ReR, ReS (`res`, on `split`), SeR (of `fake`), S3, and the S3 of clips that do not depend on their class."""
  rer, ser = real.accuracy, fake.accuracy
  if rer.num_right == 0:
    raise UserError("the real classifier recognises no real clip, so S3 is undefined; train it with more --epochs")
  res_score = _accuracy_score(config, "s3_res", synthetic, res, real.weights)
  accuracies = {"SeR": ser, "ReS": res, "ReR": rer}
  remarks = [f"{name} not above chance" for name, found in accuracies.items() if _is_chance(name, found)]
  total = _accuracy_score(config, "s3", synthetic, rer, real.weights)
  total = dataclasses.replace(
    total,
    value=s3_score(ser=ser.top1, res=res.top1, rer=rer.top1),
    protocol=", ".join([total.protocol, *remarks]),
    interval=s3_interval(**{name.lower(): (found.num_right, found.num_clips) for name, found in accuracies.items()}),
    num_generated=res.num_clips,
    extractor_hash=f"{real.weights.short_hash}+{fake.weights.short_hash}",
  )
  # With few classes random guesses have an S3 far from 0.
  chance = 1.0 / len(rer.class_names)
  guessing = Score(
    metric="s3_chance",
    value=s3_score(ser=chance, res=chance, rer=rer.top1),
    subject="guessing",
    protocol=f"SeR = ReS = 1 / {len(rer.class_names)} classes",
    split=config.evaluation.split,
    num_clips=rer.num_clips,
  )
  return [
    _accuracy_score(config, "s3_rer", config.data.name, rer, real.weights),
    dataclasses.replace(res_score, split=split, num_clips=0, num_generated=res.num_clips),
    _accuracy_score(config, "s3_ser", synthetic, ser, fake.weights),
    total,
    guessing,
  ]


def _accuracy_score(
  config: ExperimentConfig, metric: str, subject: str, measured: Accuracy, weights: WeightFile
) -> Score:
  return Score(
    metric=metric,
    value=measured.top1,
    subject=subject,
    protocol=protocol(config, metric.partition("_")[0]),
    split=config.evaluation.split,
    num_clips=measured.num_clips,
    seed=config.train.seed,
    extractor=f"{config.algorithm.network} width {config.algorithm.width:g}",
    extractor_hash=weights.short_hash,
    interval=fraction_interval(measured.num_right, measured.num_clips),
  )


def protocol(config: ExperimentConfig, metric: str) -> str:
  """Settings that determine a classifier's score: 's3, r3d18 width 64, 16 frames, 64x64, seed 0, ...'."""
  data, settings = config.data, config.algorithm
  parts = [metric, f"{settings.network} width {settings.width:g}", f"{data.num_frames} frames"]
  parts += [f"{settings.segments} segments"] if settings.segments else []
  parts += [f"stem {settings.stem}"] if settings.stem else []
  parts += [f"init {settings.init}"] if settings.init else []
  parts += [f"stride {data.frame_stride}"] if data.frame_stride > 1 else []
  parts += [f"{data.resolution}x{data.resolution}"]
  parts += [data.framing] if data.resize != DataConfig.resize or data.resize_to else []
  parts += ["luma"] if data.channels == 1 else []
  parts += [f"{settings.test_windows} windows"] if settings.test_windows > 1 else []
  return ", ".join([*parts, f"seed {config.train.seed}", "best epoch on the test split"])


def _is_chance(name: str, measured: Accuracy) -> bool:
  """Whether an accuracy may be that of a constant answer, by an exact binomial test at 5 %; logs it."""
  p_value = chance_p_value(measured.num_right, measured.num_clips, chance=measured.chance)
  if p_value > 0.05:
    logging.warning(
      "%s = %.3f (%d of %d clips) is not above chance (%.3f for the most frequent class; exact binomial test, p = "
      "%.2g), so it says nothing about the clips; use classes that the network can learn, more clips or more --epochs",
      *(name, measured.top1, measured.num_right, measured.num_clips, measured.chance, p_value),
    )
  return p_value > 0.05


def confusion_text(measured: Accuracy) -> str:
  """One line per true class: the number of predictions of each class, and the fraction of correct ones."""
  names = measured.class_names
  width = max(max(map(len, names)), len(str(measured.confusion.max())), 4)
  head = " ".join([" " * width, *(f"{name:>{width}}" for name in names)])
  with np.errstate(invalid="ignore"):  # NaN for a class without clips.
    fractions = np.diag(measured.confusion) / measured.confusion.sum(axis=1)
  rows = [
    " ".join([f"{name:<{width}}", *(f"{count:>{width}}" for count in row), f"  {fraction:.3f}"])
    for name, row, fraction in zip(names, measured.confusion, fractions, strict=True)
  ]
  return "\n".join([head, *rows])


def _log_accuracy(name: str, measured: Accuracy) -> None:
  logging.info("%s: %d of %d clips recognised (%.3f)", name, measured.num_right, measured.num_clips, measured.top1)
  if len(measured.class_names) <= 12:
    logging.info("confusion matrix:\n%s", confusion_text(measured))


def _read_classifier(path: str, config: ExperimentConfig) -> WeightFile:
  """Reads a trained classifier, which must have the settings of `config`."""
  weights = read_weight_file(path)
  settings = config.algorithm.settings
  settings.pop("num_classes")
  settings = _with_defaults(config.algorithm.network, settings)
  expected = {"network": config.algorithm.network, "data": config.data.name, "seed": config.train.seed, **settings}
  expected |= {**window_of(config.data), "framing": config.data.framing, "init": config.algorithm.init}
  stored = _with_defaults(weights.network, weights.settings)
  known = {**weights.details, **stored, **weights.preprocessing, "network": weights.network}
  known["init"] = weights.details.get("training", {}).get("init", "")
  for name, value in expected.items():
    if (found := known.get(name)) != value:
      named = {"init": "the --init of its training", "framing": "the --resize and --resize_to of its training"}
      remedy = "one that `vidgen classify` trained" if found is None else named.get(name, f"--{name}={found}")
      raise UserError(f"--classifier {path} has {name}={found!r}, not {value!r}; pass {remedy}")
  return weights


def _with_defaults(network: str, settings: Mapping[str, Any]) -> dict[str, Any]:
  """Constructor arguments with the network's defaults of those that `ClassifierConfig.settings` may leave out."""
  attributes = vars(NETWORKS.get(network, object))
  return {name: attributes[name] for name in ("segments", "stem") if name in attributes} | dict(settings)
