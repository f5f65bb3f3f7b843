"""Conversion of an experiment file's ConfigDict into frozen dataclasses, and back into plain values."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_collections
from ml_collections import config_dict

from vidgen_jax.core.config import MAX_SEED, EmaConfig, StepConfig
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.gans.settings import FROM_DATA, config_type
from vidgen_jax.parallel.config import MeshConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """Settings of the training loop.

  Attributes:
    batch_size: number of clips in a micro-batch, over all devices of all hosts.
    num_steps: number of train steps of the whole run.
    seed: seed of the initial parameters, the latents and the order of the data.
    log_every: number of train steps between two rows of metrics, which are means over these steps.
    image_every: number of train steps between contact sheets and GIFs of fixed clips of `evaluation.selection_split`; 0
      turns them off.
    evaluate_every: number of train steps between scores on clips of that split; 0 turns them off.
    checkpoint_every: number of train steps between checkpoints.
    checkpoints_to_keep: number of latest checkpoints that are kept, at least 1.
    keep_every: distance in train steps of additional checkpoints, which are never deleted; 0 for none.
  """

  batch_size: int = 512
  num_steps: int = 700_000
  seed: int = 0
  log_every: int = 100
  image_every: int = 5_000
  evaluate_every: int = 0
  checkpoint_every: int = 1_000
  checkpoints_to_keep: int = 3
  keep_every: int = 0


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
  """Settings of sampling and scoring.

  Attributes:
    batch_size: number of clips generated at once, over all devices, which need not divide it.
    num_clips: number of evaluation clips; 0 for the whole split.
    samples: l, number of predictions per clip; "best of l" scores use the best of them.
    num_frames: length of the clips in frames, conditioning frames included; 0 for the trained length.
    truncation: bound of the truncated normal distribution of the latents; 0 for the constant 0, negative for no bound.
    split: split of the clips that `vidgen evaluate`, `sample` and `figures` use; results are reported on it.
    selection_split: split on which checkpoints are selected, and of the scores and images during training, which thus
      never read `split`. A split of the training data set, which is the default because every data set has it.
    data: name of the data set of these clips; '' for the training data set `data.name`.
    standing_data: name of the data set whose training clips give the standing statistics; '' for `data.name`.
    repeats: number of evaluations, each with its own standing statistics and seed, for mean and standard deviation.
    num_generated: number of clips generated per evaluation by a model without conditioning frames; 0 for as many as
      evaluation clips.
    pool_samples: whether sets are scored with all samples of all clips in one set, instead of the mean over sets of
      one sample per clip.
    c3d_protocol: input of C3D for the inception score, as in TGAN or in TGANv2.
    standing_batches: number of forward passes over which batch statistics are pooled (TrIVD-GAN-FP: 100).
    standing_batch_size: number of clips in each of these passes, over all devices (TrIVD-GAN-FP: 256). If these do not
      divide it, each clip is computed several times, so that the statistics stay those of the clips.
    training_clips: number of clips scored, with one sample each, every `train.evaluate_every` steps.
    training_standing_batches: number of forward passes that pool batch statistics for images and scores in training.
    object_tracking: whether to score the centroid of a bright object on a black background as well, for Shape Motion.
  """

  batch_size: int = 64
  num_clips: int = 0
  samples: int = 10
  num_frames: int = 0
  truncation: float = -1.0
  split: str = "test"
  selection_split: str = "train"
  data: str = ""
  standing_data: str = ""
  repeats: int = 1
  num_generated: int = 0
  pool_samples: bool = False
  c3d_protocol: Literal["tgan1", "tgan2"] = "tgan2"
  standing_batches: int = 100
  standing_batch_size: int = 256
  training_clips: int = 256
  training_standing_batches: int = 8
  object_tracking: bool = False

  def __post_init__(self) -> None:
    if self.pool_samples and self.samples == 1:
      raise UserError(
        "evaluation.pool_samples joins several samples of each clip, but evaluation.samples is 1; set --samples above "
        "1, or --nopool_samples"
      )


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
  """Limits beyond which metrics count as a collapse, and the reaction to it.

  The detector checks means over windows of `train.log_every` steps. A window is bad if any limit is exceeded. A metric
  that is NaN or infinite always ends the run. The metrics do not reveal mode collapse.

  Attributes:
    action: reaction to a collapse: 'warn' logs one line, 'stop' ends the run, 'off' does nothing.
    patience: number of consecutive bad windows that make a collapse.
    history: number of good windows whose median is the reference; a metric with fewer is not checked.
    grad_norm_factor: upper limit of an update's gradient norm, in medians; 0 turns the check off.
    sigma_factor: upper limit of the largest singular value of a net's kernels, in medians; 0 turns the check off. At
      collapse the generator's explodes and the discriminator's jumps (Brock et al. 2018, sections 4.1 and 4.2).
    margin_limit: upper limit of the distance between a discriminator's mean outputs on real and on generated inputs; 0
      turns the check off. Beyond it the discriminator has won outright, or its loss has jumped (Brock et al. 2018,
      section 4.2). Absolute because the distance approaches 0 in good runs, where it stays below 24.
  """

  action: Literal["off", "warn", "stop"] = "warn"
  patience: int = 3
  history: int = 20
  grad_norm_factor: float = 10.0
  sigma_factor: float = 3.0
  margin_limit: float = 100.0

  def __post_init__(self) -> None:
    for name in ("grad_norm_factor", "sigma_factor"):
      if not (getattr(self, name) == 0 or getattr(self, name) > 1):
        raise UserError(f"config.health.{name}={getattr(self, name)} must be above 1, or 0 for none")
    if not self.margin_limit >= 0:
      raise UserError(f"config.health.margin_limit={self.margin_limit} must not be negative; 0 for none")


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
  """Everything that defines a run.

  Attributes:
    name: name of the experiment, for people.
    algorithm_name: name of the GAN in `GANS`; 'classifier' for the classifiers of `vidgen classify`.
    algorithm: settings of the algorithm, of the type that `GANS` lists for the name.
    data: data set, windows and reading.
    train: training loop.
    step: implementation of the train step.
    ema: moving averages of parameters.
    mesh: use of the devices.
    evaluation: sampling and scoring.
    health: detection of collapsed training.
  """

  name: str
  algorithm_name: str
  algorithm: Any
  data: DataConfig
  train: TrainConfig = field(default_factory=TrainConfig)
  step: StepConfig = field(default_factory=StepConfig)
  ema: EmaConfig = field(default_factory=EmaConfig)
  mesh: MeshConfig = field(default_factory=MeshConfig)
  evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
  health: HealthConfig = field(default_factory=HealthConfig)

  @property
  def evaluation_data(self) -> DataConfig:
    """Data set and windows of the clips that are scored."""
    return dataclasses.replace(self.data, name=self.evaluation.data or self.data.name)

  @property
  def standing_data(self) -> DataConfig:
    """Data set and windows of the standing statistics."""
    return dataclasses.replace(self.data, name=self.evaluation.standing_data or self.data.name)

  def for_selection(self) -> "ExperimentConfig":
    """The config whose evaluation clips are those of `evaluation.selection_split` of the training data set."""
    evaluation = dataclasses.replace(self.evaluation, data="", split=self.evaluation.selection_split)
    return dataclasses.replace(self, evaluation=evaluation)


RESUME_OVERRIDABLE = (
  "name",
  "train.num_steps",
  "train.log_every",
  "train.image_every",
  "train.evaluate_every",
  "train.checkpoint_every",
  "train.checkpoints_to_keep",
  "train.keep_every",
  "evaluation",
  "health",
  "mesh",
  "step.quick_compilation",
  "algorithm.remat",
  "algorithm.max_reductions",
  "algorithm.sampling_means",
  "data.data_dir",
  "data.num_threads",
  "data.prefetch",
  "data.workers",
  "data.device_prefetch",
  "data.eval_window",
  "data.eval_window_stride",
)
"""Fields that may change when a run resumes: they affect neither the layout of the state nor the training."""


def sampling_means(config: ExperimentConfig) -> tuple[float, ...]:
  """Means of the latent's parts in sampling; () for a GAN whose latents have no such parts."""
  return getattr(config.algorithm, "sampling_means", ())


def template(algorithm_name: str) -> ml_collections.ConfigDict:
  """A locked ConfigDict with every field of an experiment at its default; fields without one are placeholders."""
  algorithm = _defaults(config_type(algorithm_name))
  fields = _defaults(ExperimentConfig) | {"algorithm_name": algorithm_name, "algorithm": algorithm}
  return ml_collections.ConfigDict(fields, type_safe=True).lock()


def from_config_dict(config: ml_collections.ConfigDict) -> ExperimentConfig:
  """The frozen form of a ConfigDict; the number of classes is that of the data set where it is `FROM_DATA`.

  Raises:
    UserError: for an unknown or missing field, a value of another type or range, or a damaged data set.
  """
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(f"get_config must return a ConfigDict such as `template` makes, got {type(config).__name__}")
  values = config.to_dict()
  settings = values.pop("algorithm", {})
  if isinstance(settings, dict) and settings.get("num_classes") == FROM_DATA:
    # Imports TensorFlow Datasets.
    from vidgen_jax.runs.data_checks import count_classes

    settings["num_classes"] = count_classes(_build(DataConfig, values.get("data"), "data"))
  algorithm = _build(config_type(str(values.get("algorithm_name"))), settings, "algorithm")
  result = _build(ExperimentConfig, values | {"algorithm": algorithm}, "")
  for part, names in _AT_LEAST_ONE.items():
    for field_name in names:
      if (value := getattr(getattr(result, part), field_name)) < 1:
        raise UserError(f"config.{part}.{field_name}={value} must be at least 1")
  if not 0 <= result.train.seed <= MAX_SEED:
    raise UserError(f"config.train.seed={result.train.seed} must be in 0..{MAX_SEED}")
  for name in ("num_clips", "num_generated"):
    if (value := getattr(result.evaluation, name)) < 0:
      raise UserError(f"config.evaluation.{name}={value} must not be negative; 0 for all")
  if (batch_size := result.train.batch_size) % result.step.accumulate:
    raise UserError(f"config.step.accumulate={result.step.accumulate} does not divide {batch_size=}")
  return result


def with_data(
  config: ExperimentConfig,
  *,
  data: str | None = None,
  split: str | None = None,
  standing_statistics_data: str | None = None,
  data_dir: str | None = None,
) -> ExperimentConfig:
  """The config with other evaluation clips, data set of the standing statistics or folder of data sets.

  None keeps a value.
  """
  changes = {"data": data, "split": split, "standing_data": standing_statistics_data}
  changes = {name: value for name, value in changes.items() if value is not None}
  folder = {} if data_dir is None else {"data_dir": data_dir}
  return dataclasses.replace(
    config,
    data=dataclasses.replace(config.data, **folder),
    evaluation=dataclasses.replace(config.evaluation, **changes),
  )


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
  """JSON-compatible form of a config, the input of `from_dict`."""
  return json.loads(json.dumps(dataclasses.asdict(config)))  # Tuples become lists, as in a file.


def from_dict(values: Mapping[str, Any]) -> ExperimentConfig:
  """The inverse of `to_dict`; raises like `from_config_dict`."""
  return from_config_dict(ml_collections.ConfigDict(dict(values)))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
  """Differences between two plain configs that prevent a resume, as {dotted name: (old, new)}."""
  from flax.traverse_util import flatten_dict

  flat_old, flat_new = (flatten_dict(dict(values), sep=".") for values in (old, new))
  return {
    name: (flat_old.get(name), flat_new.get(name))
    for name in sorted(flat_old | flat_new)
    if flat_old.get(name) != flat_new.get(name)
    and not any(name == free or name.startswith(f"{free}.") for free in RESUME_OVERRIDABLE)
  }


_AT_LEAST_ONE = {
  "train": ("batch_size", "num_steps", "log_every", "checkpoint_every", "checkpoints_to_keep"),
  "step": ("accumulate",),
  "health": ("patience", "history"),
  "evaluation": (
    "batch_size",
    "samples",
    "repeats",
    "standing_batches",
    "standing_batch_size",
    "training_standing_batches",
    "training_clips",
  ),
}


def _defaults(cls: Any) -> dict[str, Any]:
  values: dict[str, Any] = {}
  hints = typing.get_type_hints(cls)
  for item in dataclasses.fields(cls):
    if item.default_factory is not dataclasses.MISSING:
      values[item.name] = dataclasses.asdict(item.default_factory())
    elif dataclasses.is_dataclass(hints[item.name]):
      values[item.name] = _defaults(hints[item.name])
    elif FROM_DATA in item.metadata:
      # Accepts numbers and the word.
      values[item.name] = config_dict.FieldReference(item.metadata[FROM_DATA], field_type=object)
    elif item.default is not dataclasses.MISSING:
      values[item.name] = item.default
    elif hints[item.name] is not Any:
      values[item.name] = config_dict.placeholder(hints[item.name])
  return values


def _build(cls: Any, values: Any, path: str) -> Any:
  if not isinstance(values, Mapping):
    raise UserError(f"config.{path} must contain fields, got {values!r}")
  hints = typing.get_type_hints(cls)
  names = list(hints)
  arguments = {}
  for name, value in values.items():
    full = f"{path}.{name}" if path else name
    if name not in names:
      close = difflib.get_close_matches(name, names, n=1)
      raise UserError(f"config.{full} is not a field" + (f"; did you mean {close[0]}?" if close else ""))
    if value is not None:
      arguments[name] = _value(hints[name], value, full)
  for item in dataclasses.fields(cls):
    required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    if required and item.name not in arguments:
      raise UserError(f"config.{path}{'.' if path else ''}{item.name} is missing")
  return cls(**arguments)


def _value(hint: Any, value: Any, path: str) -> Any:
  if hint is Any:
    return value
  if dataclasses.is_dataclass(hint):
    return _build(hint, value, path)
  origin, options = typing.get_origin(hint), typing.get_args(hint)
  if origin is Literal:
    if value not in options:
      raise UserError(f"config.{path}={value!r} must be one of {', '.join(map(repr, options))}")
    return value
  if origin is tuple:
    if not isinstance(value, (tuple, list)):
      raise UserError(f"config.{path}={value!r} must be a tuple")
    return tuple(_value(options[0], item, path) for item in value)
  if origin in (typing.Union, types.UnionType):
    hint = next(option for option in options if option is not type(None))
    return _value(hint, value, path)
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
    raise UserError(f"config.{path}={value!r} must be of type {hint.__name__}")
  return value
