"""A run's folder: which config it belongs to, and its weights."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import jax
from absl import logging

from vidgen_jax.runs import config as configs
from vidgen_jax.gans import GANS
from vidgen_jax.buckets import AnyPath, is_bucket, read_text, user_path
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.core.state import Nets
from vidgen_jax.data import records
from vidgen_jax.errors import UserError
from vidgen_jax.runs.experiment import Experiment, build_experiment
from vidgen_jax.files import disk_errors, locked, atomic_write

CONFIG_FILE = "config.json"

CONDITIONING_INDICES = "algorithm.conditioning_indices"
"""The one field of an algorithm that is not the model's own: which frames it is given when it is used."""


@dataclass(frozen=True)
class Trained:
  """Weights of a run."""

  experiment: Experiment
  nets: Nets
  """Averages or live weights of the nets that are averaged (the generator), with the last batch statistics."""
  step: int
  weights: str
  """'ema' or 'raw'."""
  class_names: tuple[str, ...]
  """Of the labels that it was trained with; also those of a model that does not look at them."""

  @property
  def is_conditional(self) -> bool:
    """Whether clips depend on a class."""
    return getattr(self.experiment.config.algorithm, "num_classes", 1) > 1


def claim(workdir: str, config: ExperimentConfig) -> None:
  """Makes the folder, or checks that it belongs to this config.

  Raises:
    UserError: if it belongs to another one, naming the fields that differ, or cannot be written.
  """
  path, plain = user_path(workdir) / CONFIG_FILE, configs.to_dict(config)
  if (known := _read(path)) is not None:
    changed = configs.differences(known, plain)
    if changed:
      listed = "; ".join(f"config.{name} was {old!r}, is {new!r}" for name, (old, new) in list(changed.items())[:5])
      raise UserError(f"--workdir={workdir} belongs to a different config ({listed}); choose another folder")
  if jax.process_index() == 0:
    if not is_bucket(path):
      with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
      temporary.write_text(json.dumps(plain, indent=2) + "\n")


@contextlib.contextmanager
def exclusive(workdir: str) -> Iterator[None]:
  """Keeps other trainings out of a folder that was claimed; the lead process holds it for its job.

  Raises:
    UserError: if another process trains there.
  """
  if jax.process_index() != 0:
    yield
    return
  path = user_path(workdir) / ".lock"
  held = f"--workdir={workdir} is being trained by another process; wait for it to end or choose another folder"
  with disk_errors(path), contextlib.ExitStack() as stack:
    stack.enter_context(locked(path, held=held))
    lock = stack.pop_all()
  with lock:
    yield


def load_config(workdir: str) -> ExperimentConfig:
  """The config of a run.

  Raises:
    UserError: if the folder holds none.
  """
  config = _read(user_path(workdir) / CONFIG_FILE)
  if config is None:
    raise UserError(f"--workdir={workdir} holds no {CONFIG_FILE}: no run was started there")
  return configs.from_dict(config)


def load_trained(
  workdir: str, *, config: ExperimentConfig | None = None, step: int | None = None, weights: str = "ema"
) -> Trained:
  """Reads a checkpoint for sampling, scoring or export.

  Args:
    workdir: of the run.
    config: replaces the run's own (other data, other settings of the evaluation); None takes the latter.
    step: of the checkpoint; None for the latest.
    weights: 'ema' or 'raw'.

  Raises:
    UserError: if there is no such checkpoint, or `config` describes another model.
  """
  if config is None:
    config = load_config(workdir)
  else:
    check_same_model(workdir, config)
  return load_weights(workdir, build_experiment(config), step=step, weights=weights)


def load_weights(workdir: str, experiment: Experiment, *, step: int | None = None, weights: str = "ema") -> Trained:
  """As `load_trained`, with the run's experiment at hand: for one checkpoint after another.

  Args:
    workdir: of the run.
    experiment: of the run.
    step: of the checkpoint; None for the latest.
    weights: 'ema' or 'raw'.

  Raises:
    UserError: if there is no such checkpoint.
  """
  with Checkpointer(workdir, read_only=True) as checkpointer:
    restored = checkpointer.restore(experiment.abstract_state, step=step)
  if restored is None:
    raise UserError(f"--workdir={workdir} holds no checkpoint yet")
  logging.info("weights: %s of step %d from %s", weights, restored.step, workdir)
  names = experiment.algorithm.ema_nets
  nets = restored.state.ema if weights == "ema" else {name: restored.state.nets[name] for name in names}
  return Trained(
    experiment=experiment,
    nets=nets,
    step=restored.step,
    weights=weights,
    class_names=tuple(restored.meta.get("class_names", ())),
  )


def check_label_map(trained: Trained) -> None:
  """Checks that the labels of the data set mean what the model learnt them to mean.

  Args:
    trained: if its clips do not depend on a class, any data set will do.

  Raises:
    UserError: with both lists of classes, or if the data set is missing.
  """
  if trained.is_conditional:
    records.check_class_names(trained.class_names, trained.experiment.config.data, what="the model")


def check_same_model(workdir: str, config: ExperimentConfig) -> None:
  """Checks that a config describes the model that a run has trained.

  Raises:
    UserError: naming the first field that does not fit, or if the folder holds no run.
  """
  changed = configs.differences(configs.to_dict(load_config(workdir)), configs.to_dict(config))
  algorithm = GANS[config.algorithm_name][1](config.algorithm)
  shape = ("data.resolution", "data.channels", *(["data.num_frames"] if algorithm.fixed_length else []))
  for name, (old, new) in changed.items():
    if (name.startswith("algorithm") and name != CONDITIONING_INDICES) or name in shape:
      raise UserError(f"--workdir={workdir} holds another model than --config: config.{name} was {old!r}, is {new!r}")


def _read(path: AnyPath) -> dict | None:
  """The fields of a config file; None if there is none."""
  try:
    text = read_text(path)
    return None if text is None else json.loads(text)
  except ValueError as error:
    raise UserError(f"{path} is damaged: {error}") from error
