"""The choice of conditioning frames for models that accept any frames of a clip (SR-cGAN)."""

import dataclasses
from collections.abc import Sequence

from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig

TASKS = ("interpolate", "inpaint", "predict", "infer", "generate")
"""Sets of conditioning frames."""


def indices_of_task(task: str, *, num_frames: int, default: Sequence[int]) -> tuple[int, ...]:
  """The 0-based conditioning indices of one of `TASKS` (SR-cGAN, IV.C.3 and IV.C.4; its figures have 16 frames).

  - interpolate: the first and the last frame, as in figure 11;
  - inpaint: the first and the last fifth of the clip, at least one frame each;
  - predict: the first three eighths, at least one frame: 6 of 16, as in figure 12;
  - infer: `default`, the frames of the model's config, as in figure 8;
  - generate: none.
  """
  fifth = max(1, num_frames // 5)
  return {
    "interpolate": (0, num_frames - 1),
    "inpaint": (*range(fifth), *range(num_frames - fifth, num_frames)),
    "predict": tuple(range(max(1, 3 * num_frames // 8))),
    "infer": tuple(default),
    "generate": (),
  }[task]


def with_conditioning_indices(config: ExperimentConfig, conditioning_indices: Sequence[int]) -> ExperimentConfig:
  """The config with other conditioning frames: 0-based indices in any order, negative ones count from the end.

  Raises:
    UserError: the model's conditioning frames are fixed, or a frame is out of range or occurs twice.
  """
  if not hasattr(config.algorithm, "conditioning_indices"):
    raise UserError(f"the conditioning frames of {config.algorithm_name} are fixed; only sr_cgan accepts any frames")
  num_frames = config.data.num_frames
  if wrong := [frame for frame in conditioning_indices if not -num_frames <= frame < num_frames]:
    raise UserError(f"frame {wrong[0]} is out of range: a clip has {num_frames} frames, counted from 0")
  times = sorted(frame % num_frames for frame in conditioning_indices)
  if len(set(times)) < len(times):
    raise UserError(f"conditioning frames {', '.join(map(str, conditioning_indices))}: one of them occurs twice")
  return dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, conditioning_indices=tuple(times)))
