"""`vidgen train`: starts or resumes a run."""

import signal
from typing import TYPE_CHECKING, Any

from absl import flags

from vidgen_jax.commands import distributed_flags
from vidgen_jax.commands.dataset_flags import STRICT_DATA
from vidgen_jax.commands.flag_parsing import check_needs, define_config, values_of
from vidgen_jax.core.config import MAX_SEED

if TYPE_CHECKING:
  from vidgen_jax.core.state import TrainState
  from vidgen_jax.runs.config import ExperimentConfig

# Modules that use JAX are imported by the functions, so that a mistake in a flag is reported at once.

SUMMARY = """Trains the system that an experiment file describes; resumes if the workdir contains checkpoints.

Needs --config and --workdir, and the data set of config.data.name (build it with `vidgen data build`).
--restore_step=N restarts from the checkpoint of step N and deletes later checkpoints and metrics; with --new_seed the
run then uses other random numbers and another order of the data, so that it does not repeat a collapse.
Exit status: 0 after the last step; 75 after SIGTERM: the state is saved, and the same command resumes the run.
Example: vidgen train --config=experiments/trivd_shape_motion.py:cpu --workdir=runs/shapes"""

BUCKET_FLAGS = ("workdir",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the command."""
  values: dict[str, Any] = {"flag_values": flag_values}
  define_config(flag_values)
  text = "folder of the run, or gs://BUCKET/NAME: checkpoints, metrics, images"
  flags.DEFINE_string("workdir", None, text, **values)
  text = (
    "checkpoint to restart from; deletes later checkpoints and metrics. Repeating the command with the same "
    "--restore_step and --new_seed resumes instead"
  )
  flags.DEFINE_integer("restore_step", None, text, lower_bound=1, **values)
  text = "with --restore_step: seed of other random numbers and another order of the data"
  flags.DEFINE_integer("new_seed", None, text, lower_bound=0, upper_bound=MAX_SEED, **values)
  flags.DEFINE_bool("strict_data", False, STRICT_DATA, **values)
  flags.DEFINE_bool("profile", False, "write a JAX trace of a few steps to workdir/profile", **values)
  distributed_flags.define(flag_values)
  flags.mark_flags_as_required(["config", "workdir"], **values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, _arguments: list[str]) -> int | None:
  """Runs the command; returns `PREEMPTED_EXIT_CODE` if a signal stopped it."""
  from vidgen_jax.runs.config import from_config_dict

  config = from_config_dict(flag_values.config)
  check_needs(flag_values, {"new_seed": "restore_step"})
  distributed_flags.check(flag_values)
  from vidgen_jax.runs.data_checks import check_training

  check_training(config)
  from vidgen_jax.parallel.processes import PREEMPTED_EXIT_CODE, StopSignals, enable_compilation_cache

  enable_compilation_cache()
  distributed_flags.join(flag_values)
  stop = StopSignals()
  options = values_of(flag_values, "profile", "restore_step", "new_seed", "strict_data")
  state = train(config, flag_values.workdir, stop=stop, **options)
  # In a job of several hosts the signal may have reached another host. SIGINT comes from a user who wants no restart.
  preempted = int(state.step) < config.train.num_steps and stop.received != signal.SIGINT
  return PREEMPTED_EXIT_CODE if preempted else None


def train(config: "ExperimentConfig", workdir: str, **options: Any) -> "TrainState":
  """Trains a GAN; options, result and errors are those of `train_experiment`."""
  from vidgen_jax.buckets import user_path
  from vidgen_jax.runs.experiment import build_experiment
  from vidgen_jax.runs.loop import train_experiment

  experiment = build_experiment(config)
  if not (config.train.image_every or config.train.evaluate_every):
    return train_experiment(experiment, workdir, [], **options)
  # Imports every metric.
  from vidgen_jax.runs.validation import ValidationHook, check_scores

  check_scores(experiment)
  return train_experiment(experiment, workdir, [ValidationHook(experiment, user_path(workdir))], **options)
