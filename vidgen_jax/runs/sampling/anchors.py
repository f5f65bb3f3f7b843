"""Which frames a model that takes any is given: named one by one, or by a task (SR-cGAN)."""

import dataclasses
from collections.abc import Sequence

from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.errors import UserError

TASKS = ("interpolate", "inpaint", "predict", "infer", "generate")
"""Shorthands for conditioning frames; see `frames_of_task`."""


def frames_of_task(task: str, *, num_frames: int, usual: Sequence[int]) -> tuple[int, ...]:
  """The conditioning frames that a task stands for (SR-cGAN, IV.C.3, IV.C.4; in its figures N is 16).

  - interpolate: the first and the last one, as in figure 11;
  - inpaint: the first and the last fifth, at least one each;
  - predict: the first three eighths, at least one: 6 of 16, as in figure 12;
  - infer: those that the model was configured with, as in figure 8;
  - generate: none.

  Args:
    task: one of `TASKS`.
    num_frames: N, of the clip.
    usual: what the model was configured with.

  Returns:
    0-based indices, in ascending order; negative ones in `usual` stay as they are.

  Raises:
    UserError: if there is no such task.
  """
  if task not in TASKS:
    raise UserError(f"--task={task} is none of {', '.join(TASKS)}")
  fifth = max(1, num_frames // 5)
  return {
    "interpolate": (0, num_frames - 1),
    "inpaint": (*range(fifth), *range(num_frames - fifth, num_frames)),
    "predict": tuple(range(max(1, 3 * num_frames // 8))),
    "infer": tuple(usual),
    "generate": (),
  }[task]


def with_given_frames(config: ExperimentConfig, conditioning_indices: Sequence[int]) -> ExperimentConfig:
  """The config of a model that is to be given other frames than it was configured with.

  Args:
    config: of the run.
    conditioning_indices: 0-based indices, in any order; negative ones count from the end.

  Raises:
    UserError: if the model cannot choose, or there are no such frames.
  """
  if not hasattr(config.algorithm, "conditioning_indices"):
    raise UserError(f"models of {config.algorithm_name} are always given the same frames; only sr_cgan takes any")
  num_frames = config.data.num_frames
  if wrong := [frame for frame in conditioning_indices if not -num_frames <= frame < num_frames]:
    raise UserError(f"frame {wrong[0]} is not in clips of {num_frames} frames, which are counted from 0")
  times = sorted(frame % num_frames for frame in conditioning_indices)
  if len(set(times)) < len(times):
    raise UserError(f"conditioning frames {', '.join(map(str, conditioning_indices))}: one of them is named twice")
  return dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, conditioning_indices=tuple(times)))


def parse_anchors(words: Sequence[str]) -> dict[int, str]:
  """Images by their time in the clip.

  Args:
    words: FILE@TIME each, such as 'first.png@0' or 'last.png@-1'.

  Returns:
    In the order of the words.

  Raises:
    UserError: if a word has no time, or a time occurs twice.
  """
  anchors: dict[int, str] = {}
  for word in words:
    path, _, time = word.rpartition("@")
    try:
      number = int(time)
    except ValueError:
      path = ""
    if not path:
      raise UserError(f"--anchor={word} must be an image and its time, counted from 0, such as first.png@0")
    if number in anchors:
      raise UserError(f"--anchor: {anchors[number]} and {path} have the same time {number}")
    anchors[number] = path
  return anchors
