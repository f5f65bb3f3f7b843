"""The folder of a run: its config, its lock and its trained weights."""

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import jax
from absl import logging

from vidgen_jax.buckets import AnyPath, read_text, user_path
from vidgen_jax.core.state import Nets
from vidgen_jax.data.records import check_class_names, check_content
from vidgen_jax.errors import UserError
from vidgen_jax.files import disk_errors, locked, write_json
from vidgen_jax.gans import GANS
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import ExperimentConfig, differences, from_dict, to_dict
from vidgen_jax.runs.experiment import Experiment, build_experiment

CONFIG_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class Trained:
  """Weights of a run.

  Attributes:
    experiment: experiment of the run.
    nets: weights of the nets in `ema_nets` (the generator), with their last batch statistics.
    step: number of completed train steps.
    weights: 'ema' for averaged weights, 'raw' for live ones.
    class_names: classes of the training labels, also for a model that ignores labels.
    workdir: folder of the run.
    data_hash: hash of the training clips, see `DatasetInfo.content_hash`; '' if it is unknown.
  """

  experiment: Experiment
  nets: Nets
  step: int
  weights: str
  class_names: tuple[str, ...]
  workdir: str = ""
  data_hash: str = ""

  @property
  def is_conditional(self) -> bool:
    """Whether clips depend on a class."""
    return getattr(self.experiment.config.algorithm, "num_classes", 1) > 1


def claim(workdir: str, config: ExperimentConfig) -> None:
  """Creates the folder of a run with its config; UserError if it belongs to another config or cannot be written."""
  path, plain = user_path(workdir) / CONFIG_FILE, to_dict(config)
  known = _read(path)
  if known is not None and (changed := differences(known, plain)):
    listed = "; ".join(f"config.{name} was {old!r}, is {new!r}" for name, (old, new) in list(changed.items())[:5])
    raise UserError(f"{workdir} belongs to a run with another config ({listed}); choose another folder")
  if jax.process_index() == 0:
    write_json(path, plain)


@contextlib.contextmanager
def exclusive(workdir: str) -> Generator[None]:
  """Locks a claimed folder against other trainings, on process 0; UserError if one is running."""
  path = user_path(workdir) / ".lock"
  held = f"another process trains in {workdir}; wait until it ends or choose another folder"
  with contextlib.ExitStack() as stack:
    if jax.process_index() == 0:
      with disk_errors(path):
        stack.enter_context(locked(path, held=held))
    yield


def load_config(workdir: str) -> ExperimentConfig:
  """The config of a run; UserError if the folder has none."""
  config = _read(user_path(workdir) / CONFIG_FILE)
  if config is None:
    raise UserError(f"--workdir={workdir} has no {CONFIG_FILE}: no run was started there")
  return from_dict(config)


def load_trained(
  workdir: str, *, config: ExperimentConfig | None = None, step: int | None = None, weights: str = "ema"
) -> Trained:
  """Reads the weights of a checkpoint for sampling, scoring or export.

  `config` replaces the run's own, with other data or evaluation settings; `step` None is the latest; `weights` are
  'ema' or 'raw'.

  Raises:
    UserError: if there is no such checkpoint, or `config` describes another model.
  """
  if config is None:
    config = load_config(workdir)
  else:
    check_same_model(workdir, config)
  return load_weights(workdir, build_experiment(config, trains=False), step=step, weights=weights)


def load_weights(workdir: str, experiment: Experiment, *, step: int | None = None, weights: str = "ema") -> Trained:
  """Like `load_trained`, for an experiment that is built once to read many checkpoints."""
  with Checkpointer(workdir, read_only=True) as checkpointer:
    restored = checkpointer.restore(experiment.abstract_state, step=step)
  if restored is None:
    raise UserError(f"--workdir={workdir} has no checkpoint yet")
  logging.info("weights: %s of step %d from %s", weights, restored.step, workdir)
  names = experiment.algorithm.ema_nets
  return Trained(
    experiment=experiment,
    nets=restored.state.ema if weights == "ema" else {name: restored.state.nets[name] for name in names},
    step=restored.step,
    weights=weights,
    class_names=tuple(restored.meta["class_names"]),
    workdir=workdir,
    data_hash=restored.meta.get("data_hash", ""),
  )


def check_data(trained: Trained, *, strict: bool = False) -> None:
  """Compares the data sets that a model is evaluated with to those of its training.

  Raises a UserError if they have other classes than a conditional model. Logs that the training data set was built
  again with other clips since the training; with `strict`, this is an error as well.
  """
  config = trained.experiment.config
  for data in dict.fromkeys((config.evaluation_data, config.standing_data)):
    if trained.is_conditional:
      check_class_names(trained.class_names, data, what="the model")
    if data.name == config.data.name:
      check_content(trained.data_hash, data, owner=f"the run in --workdir={trained.workdir}", strict=strict)


def check_same_model(workdir: str, config: ExperimentConfig) -> None:
  """Raises a UserError with the first field that makes a config describe another model than a run's."""
  changed = differences(to_dict(load_config(workdir)), to_dict(config))
  gan_type: Any = GANS[config.algorithm_name][1]
  shape = ["data.resolution", "data.channels"]
  shape += ["data.num_frames"] if gan_type(config.algorithm).fixed_length else []
  for name, (old, new) in changed.items():
    # The conditioning indices are a use of the model.
    if (name.startswith("algorithm") and name != "algorithm.conditioning_indices") or name in shape:
      raise UserError(f"--workdir={workdir} has another model than --config: config.{name} was {old!r}, is {new!r}")


def _read(path: AnyPath) -> dict | None:
  try:
    text = read_text(path)
    return None if text is None else json.loads(text)
  except ValueError as error:
    raise UserError(f"{path} is damaged: {error}") from error
