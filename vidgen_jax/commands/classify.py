"""`vidgen classify`: trains a classifier on a data set, and scores synthetic clips with two of them (S3)."""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax.commands import distributed_flags
from vidgen_jax.data import records
from vidgen_jax.data.config import DEFAULT_DATA_DIR, DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.parallel import startup
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.scores.classifier import NETWORK_DEFAULTS, Accuracy, ClassifierConfig, accuracy, train_classifier
from vidgen_jax.scores.classifier.config import window_of
from vidgen_jax.scores.report import Score, append_scores, score_table
from vidgen_jax.scores.metrics.classifier_scores import s3_score
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file

SUMMARY = """Trains a video classifier on a data set; with --synthetic, scores that data set's clips by S3.

Needs --data, a built data set with classes and the splits train and test, and --out. The classifier goes to
OUT/classifier.safetensors and .json; a training that was stopped continues when the same command is given again.
With --synthetic a second classifier is trained on synthetic clips with the same settings (in OUT/synthetic), and
S3 = sqrt(SeR ReS) / ReR is printed and appended to OUT/scores.jsonl: SeR is trained on synthetic and tested on real
clips, ReS the reverse, ReR is real on both sides. Its classes must be the same, in the same order.
Example: vidgen classify --data=weizmann --synthetic=weizmann_generated --out=runs/s3 --width=16 --resolution=64"""

SCORES_FILE = "scores.jsonl"
SYNTHETIC_FOLDER = "synthetic"
NUM_RESAMPLES = 1000

_BY_NETWORK = ("batch_size", "learning_rate", "dropout", "width")


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  defaults = {field.name: field.default for field in dataclasses.fields(ClassifierConfig)}

  def define(kind: str, name: str, default: object, text: str) -> None:
    getattr(flags, f"DEFINE_{kind}")(name, default, text, flag_values=flag_values)

  def by_network(field: str) -> str:
    return ", ".join(f"{name} {getattr(network, field):g}" for name, network in NETWORK_DEFAULTS.items())

  define("string", "data", None, "name of a built data set of real clips")
  define("string", "synthetic", None, "name of a built data set of synthetic clips of the same classes")
  define("string", "data_dir", DEFAULT_DATA_DIR, "folder of all data sets")
  define("string", "out", None, "folder for classifiers, checkpoints, metrics and scores")
  define("string", "classifier", None, "an already trained classifier of --data and the same settings, .safetensors")
  flags.DEFINE_enum("network", defaults["network"], list(NETWORK_DEFAULTS), "architecture", flag_values=flag_values)
  define(
    "float", "width", None, f"channels of the first block (c3d: multiple of all); by default {by_network('width')}"
  )
  define("float", "dropout", None, f"before the last layer; by default {by_network('dropout')}")
  define("integer", "num_frames", 16, "frames of a window")
  define("integer", "frame_stride", 1, "distance between the frames of a window")
  define("integer", "resolution", 64, "height and width of a window, pixels")
  define("integer", "channels", 3, "3 for RGB, 1 for luma")
  define("integer", "epochs", defaults["epochs"], "at most so many")
  define("integer", "steps_per_epoch", 0, "0: once through the data; small data sets profit from more windows an epoch")
  define("integer", "batch_size", None, f"over all devices; by default {by_network('batch_size')}")
  define("float", "learning_rate", None, f"at the start; by default {by_network('learning_rate')}")
  flags.DEFINE_enum(
    "optimizer", defaults["optimizer"], ["sgd", "adam"], "sgd has momentum 0.9", flag_values=flag_values
  )
  define("float", "weight_decay", defaults["weight_decay"], "pull of kernels towards zero")
  define("integer", "patience", defaults["patience"], "epochs without a better test before the rate falls to a tenth")
  define("integer", "max_reductions", defaults["max_reductions"], "ends at this many such plateaus")
  define("bool", "random_flip", False, "mirrors half of the training windows; wrong where left and right matter")
  define("integer", "test_windows", defaults["test_windows"], "of each test clip, evenly spread; 1 is the centre")
  define("integer", "seed", 0, "of weights, order, windows and dropout")
  distributed_flags.define(flag_values)
  flags.mark_flags_as_required(["data", "out"], flag_values=flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  config = _config(flag_values)
  startup.enable_compilation_cache()
  distributed_flags.join(flag_values)
  table = classify(config, flag_values.out, synthetic=flag_values.synthetic, classifier=flag_values.classifier)
  if table is not None and jax.process_index() == 0:
    path = Path(flag_values.out) / SCORES_FILE
    append_scores(path, table)
    sys.stdout.write(f"{score_table(table)}\n")
    logging.info("appended %d scores to %s", len(table), path)


def classify(
  config: ClassifierConfig, folder: str, *, synthetic: str | None = None, classifier: str | None = None
) -> list[Score] | None:
  """Trains what is not trained yet, and scores.

  Args:
    config: of the classifier of real clips; that of synthetic ones differs from it in the name of the data only.
    folder: for everything that is written.
    synthetic: name of the data set of synthetic clips; None for the real classifier alone.
    classifier: file of an already trained real classifier.

  Returns:
    ReR, or ReR, ReS, SeR and S3. None if the process was asked to stop: the same call continues.

  Raises:
    UserError: if data, files or settings do not fit.
  """
  mesh = make_mesh(MeshConfig())
  synthetic_data = None if synthetic is None else dataclasses.replace(config.data, name=synthetic)
  if synthetic_data is not None:  # Before hours of training.
    own = records.load_info(config.data.name, config.data.data_dir).class_names
    records.check_class_names(own, synthetic_data, what=f"data set {config.data.name!r}")
  if classifier is not None:
    weights = read_weight_file(classifier)
    _check_settings(weights, config, classifier)
    split, windows = config.data.eval_split, config.test_windows
    rer = accuracy(weights, config.data, split, mesh, batch_size=config.batch_size, windows=windows)
  elif (trained := train_classifier(config, folder, mesh=mesh)) is None:
    return None
  else:
    weights, rer = trained.weights, trained.accuracy
  _log_accuracy(config.data.name, rer)
  scores = Scores(config, rer, weights)
  if synthetic_data is None:
    return scores.table()
  second = dataclasses.replace(config, data=synthetic_data, test_data=config.data)
  trained = train_classifier(second, str(Path(folder) / SYNTHETIC_FOLDER), mesh=mesh)
  if trained is None:
    return None
  splits = records.load_info(synthetic, synthetic_data.data_dir).num_clips
  split = config.data.eval_split if config.data.eval_split in splits else config.data.train_split
  windows = config.test_windows
  res = accuracy(weights, synthetic_data, split, mesh, batch_size=config.batch_size, windows=windows)
  return scores.table_of_s3(
    synthetic, ser=trained.accuracy, synthetic_weights=trained.weights, res=res, res_split=split
  )


@dataclasses.dataclass(frozen=True)
class Scores:
  """Turns accuracies into scores that say what they were computed on.

  Attributes:
    config: of the real classifier.
    rer: its accuracy on real test clips.
    weights: of it.
  """

  config: ClassifierConfig
  rer: Accuracy
  weights: WeightFile

  def table(self) -> list[Score]:
    """The accuracy of the real classifier alone."""
    return [self._accuracy("accuracy", self.config.data.name, self.rer, self.weights)]

  def table_of_s3(
    self, synthetic: str, *, ser: Accuracy, synthetic_weights: WeightFile, res: Accuracy, res_split: str
  ) -> list[Score]:
    """ReR, ReS, SeR, and S3 of a set of synthetic clips, beside that of guessing.

    Args:
      synthetic: name of the set.
      ser: of the synthetic classifier on real test clips.
      synthetic_weights: of that classifier.
      res: of the real classifier on synthetic clips.
      res_split: the split that `res` was measured on.

    Raises:
      UserError: if the real classifier recognises nothing, so that there is no score.
    """
    if self.rer.num_right == 0:
      raise UserError("the real classifier recognises no real clip, so S3 is not defined; train it with more --epochs")
    value = s3_score(ser=ser.top1, res=res.top1, rer=self.rer.top1)
    generated = res.num_clips
    both = f"{self.weights.short_hash}+{synthetic_weights.short_hash}"
    total = dataclasses.replace(
      self._accuracy("s3", synthetic, self.rer, self.weights),
      value=value,
      interval=None,
      num_generated=generated,
      extractor_hash=both,
    )
    res_score = self._accuracy("s3_res", synthetic, res, self.weights)
    return [
      self._accuracy("s3_rer", self.config.data.name, self.rer, self.weights),
      dataclasses.replace(res_score, split=res_split, num_clips=0, num_generated=generated),
      self._accuracy("s3_ser", synthetic, ser, synthetic_weights),
      total,
      self._guessing(),
    ]

  def _guessing(self) -> Score:
    """S3 of clips that say nothing of their class: with few classes it is far from 0."""
    chance = 1.0 / len(self.rer.class_names)
    return Score(
      metric="s3_chance",
      value=s3_score(ser=chance, res=chance, rer=self.rer.top1),
      subject="guessing",
      protocol=f"SeR = ReS = 1 / {len(self.rer.class_names)} classes",
      split=self.config.data.eval_split,
      num_clips=self.rer.num_clips,
    )

  def _accuracy(self, metric: str, subject: str, measured: Accuracy, weights: WeightFile) -> Score:
    config = self.config
    return Score(
      metric=metric,
      value=measured.top1,
      subject=subject,
      protocol=protocol(config, metric.partition("_")[0]),
      split=config.data.eval_split,
      num_clips=measured.num_clips,
      seed=config.seed,
      extractor=f"{config.network} width {config.width:g}",
      extractor_hash=weights.short_hash,
      interval=share_interval(measured.num_right, measured.num_clips),
    )


def protocol(config: ClassifierConfig, metric: str) -> str:
  """What a classifier's score depends on, in words: 's3, r3d18 width 64, 16 frames, 64x64, seed 0'."""
  data = config.data
  parts = [metric, f"{config.network} width {config.width:g}", f"{data.num_frames} frames"]
  parts += [f"stride {data.frame_stride}"] if data.frame_stride > 1 else []
  parts += [f"{data.resolution}x{data.resolution}"]
  parts += ["luma"] if data.channels == 1 else []
  parts += [f"{config.test_windows} windows"] if config.test_windows > 1 else []
  return ", ".join([*parts, f"seed {config.seed}", "best epoch on the test split"])


def share_interval(num_right: int, num_clips: int, *, seed: int = 0) -> tuple[float, float]:
  """The 95 % confidence interval of a share, by bootstrap over the clips.

  Drawing as many clips again, with replacement, finds a binomial number of recognised ones.

  Args:
    num_right: recognised clips.
    num_clips: all clips.
    seed: of the draws.

  Returns:
    (2.5 %, 97.5 %) percentiles of the shares.
  """
  drawn = np.random.default_rng(seed).binomial(num_clips, num_right / num_clips, size=NUM_RESAMPLES) / num_clips
  low, high = np.percentile(drawn, [2.5, 97.5])
  return float(low), float(high)


def confusion_text(measured: Accuracy) -> str:
  """A line for each true class: how often each class was predicted, and the share of right ones."""
  names = measured.class_names
  width = max(max(map(len, names)), len(str(measured.confusion.max())), 4)
  head = " ".join([" " * width, *(f"{name:>{width}}" for name in names)])
  shares = measured.per_class
  rows = [
    " ".join([f"{name:<{width}}", *(f"{count:>{width}}" for count in row), f"  {shares[name]:.3f}"])
    for name, row in zip(names, measured.confusion.tolist(), strict=True)
  ]
  return "\n".join([head, *rows])


def _log_accuracy(name: str, measured: Accuracy) -> None:
  logging.info("%s: %d of %d clips recognised (%.3f)", name, measured.num_right, measured.num_clips, measured.top1)
  if len(measured.class_names) <= 12:
    for line in confusion_text(measured).splitlines():
      logging.info("%s", line)


def _config(flag_values: flags.FlagValues) -> ClassifierConfig:
  fields = ("num_frames", "frame_stride", "resolution", "channels", "random_flip", "data_dir")
  data = DataConfig(name=flag_values.data, **{field: flag_values[field].value for field in fields})
  published = NETWORK_DEFAULTS[flag_values.network]
  conditioning = {field: flag_values[field].value for field in _BY_NETWORK}
  settings = {field: getattr(published, field) if value is None else value for field, value in conditioning.items()}
  others = ("network", "epochs", "steps_per_epoch", "optimizer", "weight_decay", "patience", "max_reductions", "seed")
  settings |= {field: flag_values[field].value for field in (*others, "test_windows")}
  return ClassifierConfig(data=data, **settings)


def _check_settings(weights: WeightFile, config: ClassifierConfig, path: str) -> None:
  """A classifier that is taken from a file must be what would have been trained."""
  expected = {"network": config.network, "data": config.data.name, "seed": config.seed}
  found = {"network": weights.network, "data": weights.details.get("data"), "seed": weights.details.get("seed")}
  settings = config.settings(len(weights.class_names))
  expected |= {name: settings[name] for name in ("width", "dropout")} | window_of(config.data)
  found |= {name: weights.settings.get(name) for name in ("width", "dropout")}
  found |= {name: weights.preprocessing.get(name) for name in window_of(config.data)}
  for name, value in expected.items():
    if found[name] != value:
      raise UserError(f"--classifier {path} has {name}={found[name]!r}, not {value!r}; pass --{name}={found[name]}")
