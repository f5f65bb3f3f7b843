"""Flags that choose which frames are given to a model that takes any."""

from absl import flags

from vidgen_jax.commands.flag_parsing import integers
from vidgen_jax.config import ExperimentConfig
from vidgen_jax.errors import UserError
from vidgen_jax.sampling.anchors import TASKS, frames_of_task

NAMES = ("task", "given_frames")


def define_given_flags(flag_values: flags.FlagValues) -> None:
  """The flags `NAMES`."""
  flags.DEFINE_enum(
    "task", None, TASKS, "which frames are given, if the model takes any: those of a task", flag_values=flag_values
  )
  flags.DEFINE_list(
    "given_frames",
    None,
    "which frames are given, if the model takes any; counted from 0, -1 the last",
    flag_values=flag_values,
  )


def given_frames(flag_values: flags.FlagValues, config: ExperimentConfig) -> tuple[int, ...] | None:
  """The frames that the flags name; None where they name none.

  Args:
    flag_values: of the command.
    config: of the run.

  Raises:
    UserError: if both are given, or a frame is no number.
  """
  if flag_values.task is not None and flag_values.given_frames is not None:
    raise UserError("--task and --given_frames exclude each other; give one of them")
  if flag_values.task is not None:
    usual = getattr(config.algorithm, "given_frames", ())
    return frames_of_task(flag_values.task, num_frames=config.data.num_frames, usual=usual)
  return None if flag_values.given_frames is None else integers("given_frames", flag_values.given_frames)
