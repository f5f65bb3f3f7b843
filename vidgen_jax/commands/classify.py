"""`vidgen classify`: trains a classifier on a data set, and scores synthetic clips with two of them (S3)."""

import dataclasses
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax.commands import distributed_flags
from vidgen_jax.data import records
from vidgen_jax.data.config import DEFAULT_DATA_DIR, DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.parallel.processes import PREEMPTED_EXIT_CODE, StopSignals, enable_compilation_cache
from vidgen_jax.runs.classifier import TrainedClassifier, classifier_experiment, train_classifier
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.scores.classifier.config import NETWORK_DEFAULTS, ClassifierConfig, window_of
from vidgen_jax.scores.classifier.evaluation import Accuracy, accuracy
from vidgen_jax.scores.metrics.classifier_scores import s3_score
from vidgen_jax.scores.report import Score, append_scores, score_table
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file
from vidgen_jax.types import MAX_SEED

SUMMARY = """Trains a video classifier on a data set; with --synthetic, scores that data set's clips by S3.

Needs --data, a built data set with classes and the splits train and test, and --out. OUT/classifier.safetensors and
.json contain the epoch with the best test accuracy; the same command resumes a training that was stopped.
With --synthetic a second classifier is trained on synthetic clips with the same settings (in OUT/synthetic), and
S3 = sqrt(SeR ReS) / ReR is printed and appended to OUT/scores.jsonl: SeR is trained on synthetic and tested on real
clips, ReS the reverse, ReR is real on both sides. Both data sets must have the same classes in the same order.
Example: vidgen classify --data=weizmann --synthetic=weizmann_generated --out=runs/s3 --width=16 --resolution=64"""

SCORES_FILE = "scores.jsonl"
SYNTHETIC_FOLDER = "synthetic"

_OPTIMISATION = ("epochs", "steps_per_epoch", "seed", "optimizer", "weight_decay", "patience", "max_reductions")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the command."""
  defaults = {field.name: field.default for field in dataclasses.fields(ClassifierConfig)}

  def define(kind: str, name: str, default: object, text: str, **options: object) -> None:
    getattr(flags, f"DEFINE_{kind}")(name, default, help=text, flag_values=flag_values, **options)

  def by_network(field: str) -> str:
    return "default: " + ", ".join(f"{name} {network[field]:g}" for name, network in NETWORK_DEFAULTS.items())

  define("string", "data", None, "name of a built data set of real clips")
  define("string", "synthetic", None, "name of a built data set of synthetic clips of the same classes")
  define("string", "data_dir", DEFAULT_DATA_DIR, "folder of all data sets")
  define("string", "out", None, "folder of classifiers, checkpoints, metrics and scores")
  define("string", "classifier", None, "trained classifier of --data and the same settings, .safetensors")
  define("enum", "network", defaults["network"], "architecture", enum_values=list(NETWORK_DEFAULTS))
  define("float", "width", None, f"channels of the first block (c3d: multiple of all); {by_network('width')}")
  define("float", "dropout", None, f"dropout probability before the last layer; {by_network('dropout')}")
  define("integer", "num_frames", 16, "frames of a window")
  define("integer", "frame_stride", 1, "distance between the frames of a window")
  define("integer", "resolution", 64, "height and width of a window in pixels")
  define("integer", "channels", 3, "3 for RGB, 1 for luma")
  define("integer", "epochs", 100, "maximum number of epochs", lower_bound=1)
  define(
    "integer",
    "steps_per_epoch",
    0,
    "train steps between two tests; 0 for one pass through the data, small data sets profit from more",
    lower_bound=0,
  )
  define("integer", "batch_size", None, f"clips per step over all devices; {by_network('batch_size')}", lower_bound=1)
  define("float", "learning_rate", None, f"initial learning rate; {by_network('learning_rate')}")
  define("enum", "optimizer", defaults["optimizer"], "sgd has momentum 0.9", enum_values=["sgd", "adam"])
  define("float", "weight_decay", defaults["weight_decay"], "weight decay of kernels", lower_bound=0)
  define(
    "integer",
    "patience",
    defaults["patience"],
    "epochs without a better test accuracy before the learning rate falls to a tenth",
    lower_bound=1,
  )
  define("integer", "max_reductions", defaults["max_reductions"], "plateaus that end the training", lower_bound=1)
  define("bool", "random_flip", False, "mirror half of the training windows; wrong where left and right matter")
  define(
    "integer",
    "test_windows",
    defaults["test_windows"],
    "windows of each test clip, evenly spread; 1 is the centre",
    lower_bound=1,
  )
  define("integer", "seed", 0, "seed of weights, order, windows and dropout", lower_bound=0, upper_bound=MAX_SEED)
  distributed_flags.define(flag_values)
  flags.mark_flags_as_required(["data", "out"], flag_values=flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, arguments: list[str]) -> int | None:
  """Runs the command; returns `PREEMPTED_EXIT_CODE` if a signal stopped it."""
  del arguments
  make_config = config_factory(flag_values)
  enable_compilation_cache()
  distributed_flags.join(flag_values)
  stop = StopSignals()
  scores = classify(
    make_config,
    flag_values.data,
    flag_values.out,
    synthetic=flag_values.synthetic,
    classifier=flag_values.classifier,
    stop=stop,
  )
  if scores is None:
    return None if stop.received == signal.SIGINT else PREEMPTED_EXIT_CODE
  if jax.process_index() == 0:
    path = Path(flag_values.out) / SCORES_FILE
    append_scores(path, scores)
    sys.stdout.write(f"{score_table(scores)}\n")
    logging.info("appended %d scores to %s", len(scores), path)
  return None


MakeConfig = Callable[[str, str, jax.sharding.Mesh], ExperimentConfig]
"""(training data set, test data set, mesh) -> config."""


def config_factory(flag_values: flags.FlagValues) -> MakeConfig:
  """Makes configs that differ in their data sets only."""
  published = NETWORK_DEFAULTS[flag_values.network]
  settings: dict[str, Any] = {
    name: flag_values[name].value for name in (*_OPTIMISATION, "network", "test_windows", *published)
  }
  settings |= {name: value for name, value in published.items() if settings[name] is None}
  window = ("num_frames", "frame_stride", "resolution", "channels", "random_flip", "data_dir")
  data_fields: dict[str, Any] = {name: flag_values[name].value for name in window}

  def make(data: str, test_data: str, mesh: jax.sharding.Mesh) -> ExperimentConfig:
    return classifier_experiment(
      DataConfig(name=data, **data_fields), mesh, test_data="" if test_data == data else test_data, **settings
    )

  return make


def classify(
  make_config: MakeConfig,
  data: str,
  folder: str,
  *,
  synthetic: str | None = None,
  classifier: str | None = None,
  stop: StopSignals | None = None,
) -> list[Score] | None:
  """Trains the classifiers that are not trained yet, and computes the scores.

  Args:
    make_config: result of `config_factory`.
    data: name of the data set of real clips.
    folder: output folder.
    synthetic: name of the data set of synthetic clips; None for the real classifier alone.
    classifier: weight file of a trained real classifier; None to train it.
    stop: signal handlers, which report the received signal to the caller.

  Returns:
    Scores ReR, or ReR, ReS, SeR, S3 and its value by chance. None after SIGTERM or SIGINT: the same call resumes.

  Raises:
    UserError: if data, files or settings do not fit together.
  """
  mesh = make_mesh(MeshConfig())
  config = make_config(data, data, mesh)
  if synthetic is not None:  # Raises before the training.
    names = records.load_info(data, config.data.data_dir).class_names
    synthetic_config = make_config(synthetic, data, mesh)
    records.check_class_names(names, synthetic_config.data, what=f"data set {data!r}")
  if classifier is not None:
    real = _read_classifier(classifier, config, mesh)
  elif (real := train_classifier(config, folder, mesh, stop=stop)) is None:
    return None
  _log_accuracy(data, real.accuracy)
  if synthetic is None:
    return [_accuracy_score(config, "accuracy", data, real.accuracy, real.weights)]
  trained = train_classifier(synthetic_config, str(Path(folder) / SYNTHETIC_FOLDER), mesh, stop=stop)
  if trained is None:
    return None
  splits = records.load_info(synthetic, synthetic_config.data.data_dir).num_clips
  split = config.data.eval_split if config.data.eval_split in splits else config.data.train_split
  res = _accuracy(real.weights, synthetic_config.data, split, config, mesh)
  return s3_scores(config, synthetic, real=real, synthetic_trained=trained, res=res, res_split=split)


def s3_scores(
  config: ExperimentConfig,
  synthetic: str,
  *,
  real: TrainedClassifier,
  synthetic_trained: TrainedClassifier,
  res: Accuracy,
  res_split: str,
) -> list[Score]:
  """ReR, ReS, SeR, S3, and the S3 of clips that do not depend on their class.

  Args:
    config: config of the real classifier.
    synthetic: name of the data set of synthetic clips.
    real: classifier of real clips, tested on real clips (ReR).
    synthetic_trained: classifier of synthetic clips, tested on real clips (SeR).
    res: accuracy of the real classifier on synthetic clips (ReS).
    res_split: split on which `res` was measured.
  """
  rer, ser = real.accuracy, synthetic_trained.accuracy
  if rer.num_right == 0:
    raise UserError("the real classifier recognises no real clip, so S3 is undefined; train it with more --epochs")
  rer_score = _accuracy_score(config, "s3_rer", config.data.name, rer, real.weights)
  res_score = _accuracy_score(config, "s3_res", synthetic, res, real.weights)
  total = dataclasses.replace(
    _accuracy_score(config, "s3", synthetic, rer, real.weights),
    value=s3_score(ser=ser.top1, res=res.top1, rer=rer.top1),
    interval=None,
    num_generated=res.num_clips,
    extractor_hash=f"{real.weights.short_hash}+{synthetic_trained.weights.short_hash}",
  )
  # With few classes random guesses have an S3 far from 0.
  chance = 1.0 / len(rer.class_names)
  guessing = Score(
    metric="s3_chance",
    value=s3_score(ser=chance, res=chance, rer=rer.top1),
    subject="guessing",
    protocol=f"SeR = ReS = 1 / {len(rer.class_names)} classes",
    split=config.data.eval_split,
    num_clips=rer.num_clips,
  )
  return [
    rer_score,
    dataclasses.replace(res_score, split=res_split, num_clips=0, num_generated=res.num_clips),
    _accuracy_score(config, "s3_ser", synthetic, ser, synthetic_trained.weights),
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
    split=config.data.eval_split,
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
  parts += [f"stride {data.frame_stride}"] if data.frame_stride > 1 else []
  parts += [f"{data.resolution}x{data.resolution}"]
  parts += ["luma"] if data.channels == 1 else []
  parts += [f"{settings.test_windows} windows"] if settings.test_windows > 1 else []
  return ", ".join([*parts, f"seed {config.train.seed}", "best epoch on the test split"])


def fraction_interval(num_right: int, num_clips: int, *, seed: int = 0) -> tuple[float, float]:
  """95 % confidence interval of `num_right / num_clips`, by bootstrap over the clips."""
  # The number of recognised clips in a resampled set is binomial.
  drawn = np.random.default_rng(seed).binomial(num_clips, num_right / num_clips, size=1000) / num_clips
  low, high = np.percentile(drawn, [2.5, 97.5])
  return float(low), float(high)


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
    for line in confusion_text(measured).splitlines():
      logging.info("%s", line)


def _accuracy(
  weights: WeightFile, data: DataConfig, split: str, config: ExperimentConfig, mesh: jax.sharding.Mesh
) -> Accuracy:
  windows = config.algorithm.test_windows
  return accuracy(weights, data, split, mesh, batch_size=config.train.batch_size, windows=windows)


def _read_classifier(path: str, config: ExperimentConfig, mesh: jax.sharding.Mesh) -> TrainedClassifier:
  """Reads and tests a trained classifier, which must have the settings of `config`."""
  weights = read_weight_file(path)
  settings, window = config.algorithm.settings, window_of(config.data)
  expected = {"network": config.algorithm.network, "data": config.data.name, "seed": config.train.seed}
  found = {"network": weights.network, "data": weights.details.get("data"), "seed": weights.details.get("seed")}
  expected |= {name: settings[name] for name in ("width", "dropout")} | window
  found |= {name: weights.settings.get(name) for name in ("width", "dropout")}
  found |= {name: weights.preprocessing.get(name) for name in window}
  for name, value in expected.items():
    if found[name] != value:
      raise UserError(f"--classifier {path} has {name}={found[name]!r}, not {value!r}; pass --{name}={found[name]}")
  tested = _accuracy(weights, config.data, config.data.eval_split, config, mesh)
  return TrainedClassifier(weights=weights, accuracy=tested)
