"""Flags that choose conditioning frames, for models that accept any frames of a clip."""

import re
from collections.abc import Sequence

from absl import flags

from vidgen_jax.commands.flag_parsing import integers
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig

NAMES = ("task", "conditioning_indices")
TASKS = ("interpolate", "inpaint", "predict", "infer", "generate")
"""Sets of conditioning frames."""


def define_conditioning_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags `NAMES`."""
  flags.DEFINE_enum("task", None, TASKS, "sr_cgan: the conditioning frames of a task", flag_values=flag_values)
  text = "sr_cgan: the conditioning frames by index, counted from 0, -1 for the last"
  flags.DEFINE_list("conditioning_indices", None, text, flag_values=flag_values)


def indices_of_task(task: str, *, num_frames: int, default: Sequence[int]) -> tuple[int, ...]:
  """The 0-based conditioning indices of one of `TASKS` (SR-cGAN, IV.C.3 and IV.C.4; its figures have 16 frames)."""
  fifth = max(1, num_frames // 5)
  return {
    "interpolate": (0, num_frames - 1),  # Figure 11.
    "inpaint": (*range(fifth), *range(num_frames - fifth, num_frames)),
    "predict": tuple(range(max(1, 3 * num_frames // 8))),  # 6 of 16, as in figure 12.
    "infer": tuple(default),  # The frames of the model's config, as in figure 8.
    "generate": (),
  }[task]


def conditioning_indices(flag_values: flags.FlagValues, config: ExperimentConfig) -> tuple[int, ...] | None:
  """The conditioning frames that the flags choose; None if neither flag is set, UserError if both are."""
  task, words = flag_values.task, flag_values.conditioning_indices
  if task is not None and words is not None:
    raise UserError("--task and --conditioning_indices exclude each other; set only one of them")
  if task is not None:
    default = getattr(config.algorithm, "conditioning_indices", ())
    return indices_of_task(task, num_frames=config.data.num_frames, default=default)
  return None if words is None else integers("conditioning_indices", words)


def parse_anchors(words: Sequence[str]) -> dict[int, str]:
  """The images of --anchor, such as 'last.png@-1', by time, in order; UserError for a missing or repeated time."""
  anchors: dict[int, str] = {}
  for word in words:
    match = re.fullmatch(r"(.+)@\s*([+-]?\d+)\s*", word, re.DOTALL)
    if match is None:
      raise UserError(f"--anchor={word} must be an image and its time, counted from 0, such as first.png@0")
    path, time = match[1], int(match[2])
    if time in anchors:
      raise UserError(f"--anchor: {anchors[time]} and {path} have the same time {time}")
    anchors[time] = path
  return anchors
