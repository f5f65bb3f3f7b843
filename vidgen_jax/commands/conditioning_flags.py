"""Flags that choose which frames are given to a model that takes any."""

from absl import flags

from vidgen_jax.commands.flag_parsing import integers
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.sampling.anchors import TASKS, frames_of_task

NAMES = ("task", "conditioning_indices")


def define_conditioning_flags(flag_values: flags.FlagValues) -> None:
  """The flags `NAMES`."""
  flags.DEFINE_enum(
    "task", None, TASKS, "which frames are given, if the model takes any: those of a task", flag_values=flag_values
  )
  flags.DEFINE_list(
    "conditioning_indices",
    None,
    "which frames are given, if the model takes any; counted from 0, -1 the last",
    flag_values=flag_values,
  )


def conditioning_indices(flag_values: flags.FlagValues, config: ExperimentConfig) -> tuple[int, ...] | None:
  """The frames that the flags name; None where they name none.

  Args:
    flag_values: of the command.
    config: of the run.

  Raises:
    UserError: if both are given, or a frame is no number.
  """
  if flag_values.task is not None and flag_values.conditioning_indices is not None:
    raise UserError("--task and --conditioning_indices exclude each other; give one of them")
  if flag_values.task is not None:
    usual = getattr(config.algorithm, "conditioning_indices", ())
    return frames_of_task(flag_values.task, num_frames=config.data.num_frames, usual=usual)
  return (
    None
    if flag_values.conditioning_indices is None
    else integers("conditioning_indices", flag_values.conditioning_indices)
  )
