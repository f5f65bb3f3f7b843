"""The border where an experiment file's ConfigDict becomes frozen dataclasses."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_collections
from ml_collections import config_dict

from vidgen_jax.gans import GANS
from vidgen_jax.core.ema import EmaConfig
from vidgen_jax.core.step import StepConfig
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.runs.collapse import HealthConfig
from vidgen_jax.parallel.mesh import MeshConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """The training loop.

  Attributes:
    batch_size: clips in a micro-batch, over all devices of all hosts.
    num_steps: train steps of the whole run.
    seed: of initialisation, latents and the order of the data.
    log_every: steps between written metrics.
    image_every: steps between contact sheets and GIFs of fixed validation clips; 0 for none.
    evaluate_every: steps between scores on validation clips; 0 for none.
    checkpoint_every: steps between checkpoints.
    checkpoints_to_keep: latest ones.
    keep_every: checkpoints of steps that are a multiple of it stay for ever; 0 for none.
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
  """How clips are sampled and scored.

  Attributes:
    batch_size: clips generated at once, over all devices.
    num_clips: evaluation clips; 0 for all of the split.
    samples: l, predictions drawn per clip, of which the best counts in "best of l" scores.
    num_frames: length of the clips, conditioning frames included; 0 for the trained length.
    truncation: see `SampleOptions`; a negative value means none.
    standing_batches: forward passes over which batch statistics are pooled (TrIVD-GAN-FP: 100).
    standing_batch_size: clips in each of them (TrIVD-GAN-FP: 256).
    training_clips: clips that are scored, with one sample each, every `train.evaluate_every` steps.
    training_standing_batches: passes for images and scores during training.
    object_tracking: also score the centroid of a bright object on a black ground (Shape Motion).
  """

  batch_size: int = 64
  num_clips: int = 0
  samples: int = 10
  num_frames: int = 0
  truncation: float = -1.0
  standing_batches: int = 100
  standing_batch_size: int = 256
  training_clips: int = 256
  training_standing_batches: int = 8
  object_tracking: bool = False


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
  """Everything that defines a run."""

  name: str
  """Of the experiment, for people."""
  algorithm_name: str
  """A name in `GANS`."""
  algorithm: Any
  """The algorithm's own settings, of the type that `GANS` names."""
  data: DataConfig
  train: TrainConfig = field(default_factory=TrainConfig)
  step: StepConfig = field(default_factory=StepConfig)
  ema: EmaConfig = field(default_factory=EmaConfig)
  mesh: MeshConfig = field(default_factory=MeshConfig)
  evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
  health: HealthConfig = field(default_factory=HealthConfig)


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
  "step.unroll",
  "algorithm.unroll",
  "algorithm.remat",
  "data.data_dir",
  "data.num_threads",
  "data.prefetch",
  "data.workers",
  "data.device_prefetch",
  "data.eval_split",
  "data.eval_window",
)
"""Fields that may differ when a run continues: they change neither the state's layout nor what is learned.

`health` decides what a collapse leads to, so that other limits, or a roll back, can be asked for after one.
"""


def template(algorithm_name: str) -> ml_collections.ConfigDict:
  """A ConfigDict with every field of an experiment at its default, for experiment files to change.

  Its fields are locked: a misspelt one is an error that names it. Fields without a default are placeholders.
  """
  config_type = GANS[algorithm_name][0]
  fields = _defaults(ExperimentConfig) | {"algorithm_name": algorithm_name, "algorithm": _defaults(config_type)}
  return ml_collections.ConfigDict(fields, type_safe=True).lock()


def from_config_dict(config: ml_collections.ConfigDict) -> ExperimentConfig:
  """Checks every field and returns the frozen form.

  Raises:
    UserError: naming the field, if one is unknown, missing or of another type.
  """
  values = config.to_dict()
  name = values.get("algorithm_name")
  if name not in GANS:
    raise UserError(f"config.algorithm_name={name!r} is not one of {', '.join(GANS)}")
  algorithm = _build(GANS[name][0], values.pop("algorithm", {}), "algorithm")
  result = _build(ExperimentConfig, values | {"algorithm": algorithm}, "")
  _check(result)
  return result


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
  """A plain, JSON-compatible form; `from_dict` reads it back."""
  return _plain(dataclasses.asdict(config))


def from_dict(values: Mapping[str, Any]) -> ExperimentConfig:
  """The inverse of `to_dict`.

  Raises:
    UserError: naming the field that does not fit.
  """
  return from_config_dict(ml_collections.ConfigDict(dict(values)))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
  """Fields that differ between two plain configs and may not on resume: {dotted name: (old, new)}."""
  flat_old, flat_new = _flatten(old), _flatten(new)
  return {
    name: (flat_old.get(name), flat_new.get(name))
    for name in sorted(flat_old | flat_new)
    if flat_old.get(name) != flat_new.get(name)
    and not any(name == free or name.startswith(f"{free}.") for free in RESUME_OVERRIDABLE)
  }


def _check(config: ExperimentConfig) -> None:
  positive = {
    "train.batch_size": config.train.batch_size,
    "train.num_steps": config.train.num_steps,
    "train.log_every": config.train.log_every,
    "train.checkpoint_every": config.train.checkpoint_every,
    "step.accumulate": config.step.accumulate,
    "evaluation.batch_size": config.evaluation.batch_size,
    "evaluation.samples": config.evaluation.samples,
    "evaluation.standing_batches": config.evaluation.standing_batches,
    "evaluation.training_standing_batches": config.evaluation.training_standing_batches,
    "evaluation.training_clips": config.evaluation.training_clips,
  }
  for name, value in positive.items():
    if value < 1:
      raise UserError(f"config.{name}={value} must be at least 1")
  if config.evaluation.num_clips < 0:
    raise UserError(f"config.evaluation.num_clips={config.evaluation.num_clips} must not be negative; 0 takes all")
  if config.train.batch_size % config.step.accumulate:
    batch_size = config.train.batch_size
    raise UserError(f"config.step.accumulate={config.step.accumulate} does not divide {batch_size=}")
  _check_roll_back(config.train, config.health)


def _check_roll_back(train: TrainConfig, health: HealthConfig) -> None:
  """A checkpoint from before the bad windows must still be there when they are seen to be a collapse."""
  reach, needed = (train.checkpoints_to_keep - 1) * train.checkpoint_every, health.patience * train.log_every
  if health.action == "roll_back" and not train.keep_every and reach < needed:
    raise UserError(
      f"config.health.action='roll_back' needs checkpoints from {needed} steps ago (health.patience * train.log_every) "
      f"and those that are kept reach back {reach}; raise train.checkpoints_to_keep or train.checkpoint_every"
    )


def _defaults(cls: type) -> dict[str, Any]:
  values: dict[str, Any] = {}
  hints = typing.get_type_hints(cls)
  for item in dataclasses.fields(cls):
    if dataclasses.is_dataclass(hints[item.name]):
      values[item.name] = _defaults(hints[item.name])
      default = None if item.default_factory is dataclasses.MISSING else item.default_factory()
      if default is not None:
        values[item.name] |= {k: v for k, v in vars(default).items() if not dataclasses.is_dataclass(v)}
    elif item.default is not dataclasses.MISSING:
      values[item.name] = item.default
    elif hints[item.name] is not Any:
      values[item.name] = config_dict.placeholder(hints[item.name])
  return values


def _build(cls: type, values: Any, path: str) -> Any:
  if not isinstance(values, Mapping):
    raise UserError(f"config.{path} must hold fields, got {values!r}")
  hints = typing.get_type_hints(cls)
  names = [item.name for item in dataclasses.fields(cls)]
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
      raise UserError(f"config.{path}={value!r} is not one of {', '.join(map(repr, options))}")
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


def _plain(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {name: _plain(item) for name, item in value.items()}
  return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in values.items():
    if isinstance(value, Mapping):
      flat |= _flatten(value, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = value
  return flat
