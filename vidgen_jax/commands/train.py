"""`vidgen train`: starts or continues a run."""

import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags, logging
from ml_collections import config_flags

from vidgen_jax.buckets import user_path
from vidgen_jax.commands import distributed_flags
from vidgen_jax.core.state import TrainState
from vidgen_jax.data import sources
from vidgen_jax.data.training_stream import TrainingStream
from vidgen_jax.errors import UserError
from vidgen_jax.files import staged_upload_dir
from vidgen_jax.parallel import startup
from vidgen_jax.parallel.preemption import PREEMPTED_EXIT_CODE, StopSignals
from vidgen_jax.runs import config as configs
from vidgen_jax.runs import scoring
from vidgen_jax.runs import workdir as workdirs
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import Experiment, build_experiment
from vidgen_jax.runs.hooks import Hooks
from vidgen_jax.runs.loop import CollapseError, TrainLoop, train_iterator
from vidgen_jax.runs.parameters import parameter_table
from vidgen_jax.runs.progress import Progress
from vidgen_jax.runs.rollbacks import Rollbacks
from vidgen_jax.runs.writers import create_writer

SUMMARY = """Trains the system that an experiment file describes; continues if the workdir holds checkpoints.

Needs --config and --workdir, and the data set that config.data.name names (build it with `vidgen data build`).
Exit status: 0 when the last step is done; 75 when SIGTERM came before it: the state is saved, and the same command
continues.
Example: vidgen train --config=experiments/trivd_shape_motion.py:cpu --workdir=runs/shapes"""

BUCKET_FLAGS = ("workdir",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  config_flags.DEFINE_config_file(
    "config", None, "experiments/FILE.py:VARIANT; override fields with --config.FIELD=VALUE", flag_values=flag_values
  )
  flags.DEFINE_string(
    "workdir", None, "folder of the run, or gs://BUCKET/NAME: checkpoints, metrics, images", flag_values=flag_values
  )
  flags.DEFINE_bool("profile", False, "writes a JAX trace of a few steps to workdir/profile", flag_values=flag_values)
  distributed_flags.define(flag_values)
  flags.mark_flags_as_required(["config", "workdir"], flag_values=flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, arguments: list[str]) -> int | None:
  """Runs the command; `PREEMPTED_EXIT_CODE` if the platform stopped it."""
  del arguments
  config = configs.from_config_dict(flag_values.config)
  startup.enable_compilation_cache()
  distributed_flags.join(flag_values)
  stop = StopSignals()
  state = train(config, flag_values.workdir, profile=flag_values.profile, stop=stop)
  # Of several hosts the platform may have told another one; a person who presses ^C wants no new start.
  preempted = int(state.step) < config.train.num_steps and stop.received != signal.SIGINT
  return PREEMPTED_EXIT_CODE if preempted else None


def train(
  config: ExperimentConfig, workdir: str, *, profile: bool = False, stop: StopSignals | None = None
) -> TrainState:
  """Trains until `config.train.num_steps`, or until SIGTERM or SIGINT, after which the state is saved.

  Args:
    config: of the run.
    workdir: its folder; a run that is found there continues, bitwise.
    profile: writes a JAX trace of some steps.
    stop: tells the caller afterwards which signal came.

  Returns:
    The last state; `state.step` says whether all steps are done.

  Raises:
    UserError: if config, workdir, data or devices do not fit.
    CollapseError: as `config.health` says; a NonFiniteMetricError names the metric and the last good step.
  """
  experiment = build_experiment(config)
  info = sources.load_info(config.data.name, config.data.data_dir)
  iterator = train_iterator(experiment)
  _check_scores(experiment)
  # Networks that do not fit the data, and weights that cannot be read, are told of before the folder belongs to them.
  _ = experiment.abstract_state, experiment.frozen_nets
  workdirs.claim(workdir, config)
  with (
    workdirs.exclusive(workdir),
    Checkpointer(
      workdir,
      every=config.train.checkpoint_every,
      keep=config.train.checkpoints_to_keep,
      keep_every=config.train.keep_every,
    ) as checkpointer,
    stop or StopSignals() as stop,
    staged_upload_dir(f"{workdir}/profile") if profile else contextlib.nullcontext() as profile_folder,
  ):
    _check_continues(checkpointer, experiment, workdir)
    hashes = {name: weights.hash for name, weights in experiment.frozen_weights.items()}
    meta = {"config": configs.to_dict(config), "class_names": list(info.class_names), "frozen_weights": hashes}
    run = _Run(experiment, workdir, checkpointer, iterator, stop, meta, profile_folder)
    rollbacks = Rollbacks(workdir)
    while True:
      try:
        return run.go_on(rollbacks)
      except CollapseError as error:
        if config.health.action != "roll_back":
          raise
        rollbacks.add(error, checkpointer, limit=config.health.max_rollbacks)


class _Run(NamedTuple):
  """What lives as long as a training, roll backs included."""

  experiment: Experiment
  workdir: str
  checkpointer: Checkpointer
  iterator: TrainingStream
  stop: StopSignals
  meta: dict[str, Any]
  profile_folder: Path | None

  def go_on(self, rollbacks: Rollbacks) -> TrainState:
    """Trains from the last checkpoint, or from the beginning, to the end or a signal; returns the last state."""
    experiment, is_lead = self.experiment, jax.process_index() == 0
    state, restored = rollbacks.start(experiment, self.checkpointer, self.iterator)
    first_step = restored.step if restored else 0
    if restored:
      logging.info("continuing after step %d, %s", first_step, _where(restored.meta, self.iterator))
    logging.info("%s", parameter_table({name: net.params for name, net in state.nets.items()}))
    with (
      contextlib.closing(
        create_writer(self.workdir, is_lead=is_lead, resumed_step=first_step if restored else None)
      ) as writer,
      Progress(
        experiment.config.train.num_steps,
        initial_step=first_step,
        clips_per_step=experiment.clips_per_step(experiment.algorithm.phase_at(first_step)),
        enabled=is_lead,
        shown=[f"{update.name}/loss" for update in experiment.updates],
      ) as progress,
    ):
      hooks = Hooks(experiment, user_path(self.workdir), writer, progress)
      meta = self.meta | {"rollbacks": len(rollbacks)}
      loop = TrainLoop(experiment, self.checkpointer, self.iterator, hooks, self.stop, meta)
      health = restored.meta.get("health") if restored else None
      return loop.run(
        state, first_step, health=health, profile_folder=str(self.profile_folder) if self.profile_folder else None
      )


def _where(meta: Mapping[str, Any], iterator: TrainingStream) -> str:
  """How much data was seen, and whether the run has moved to other devices."""
  seen = f"{iterator.get_state()['next_index']:,} clips seen"
  before, now = (meta["process_count"], meta["device_count"]), (jax.process_count(), jax.device_count())
  moved = "" if before == now else "; saved by {} processes on {} devices, now {} on {}".format(*before, *now)
  return seen + moved


def _check_scores(experiment: Experiment) -> None:
  """A setting that would be ignored is an error."""
  config, conditioning_indices = experiment.config, experiment.algorithm.conditioning_indices(experiment.num_frames)
  if config.train.evaluate_every and not scoring.metric_names(
    conditioning_indices, tracking=config.evaluation.object_tracking
  ):
    raise UserError(
      f"train.evaluate_every={config.train.evaluate_every}: clips from noise have no truth that each could be compared "
      "with; set it to 0, and score them as a set with `vidgen evaluate --networks`, beside the training with --follow"
    )


def _check_continues(checkpointer: Checkpointer, experiment: Experiment, workdir: str) -> None:
  """Checks what the config only names: a run must not go on with other labels or other frozen weights.

  A data set that was built anew with other class folders gives every label another meaning.
  """
  meta = checkpointer.latest_meta()
  if meta is None:
    return
  owner = f"the run in --workdir={workdir}"
  sources.check_class_names(meta["class_names"], experiment.config.data, what=owner)
  for name, frozen in experiment.algorithm.frozen_networks().items():
    known, found = meta.get("frozen_weights", {}).get(name), experiment.frozen_weights[name].hash
    if found != known:
      raise UserError(f"{frozen.weights} has the hash {found[:12]}, but {owner} began with {known[:12]}; restore it")
