"""The files of `vidgen sample --motion`: motion fields as arrays and images, and their agreement with the truth."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from vidgen_jax.files import atomic_write
from vidgen_jax.scores.metrics.motion_agreement import (LEAST_MOTION, MotionAgreement, compare_motion, drift, motion_baselines)
from vidgen_jax.media.flow_colors import SHORTEST_RADIUS, flow_colors, largest_radius, wheel_image
from vidgen_jax.media.images import frame_labels, mark_conditioning, save_gif, save_png
from vidgen_jax.ops.conditioning import generated_indices
from vidgen_jax.ops.video import GROUND, as_rgb, contact_sheet

ARRAYS_FILE = "motion.npz"
SHEET_FILE = "motion.png"
AGREEMENT_FILE = "motion.json"

_LEGEND_SIDE = 64


class MovingSamples(NamedTuple):
  """Clips and their motion fields."""

  samples: np.ndarray
  """uint8 [N, l, T, H, W, C], whole clips: l of each of N conditions."""
  flow: np.ndarray
  """float32 [N, l, T - G, H, W, 2]: (dx, dy) in pixels since the frame before, of the generated frames, where the
  content has arrived."""
  conditioning_indices: tuple[int, ...]
  """The G 0-based indices of the conditioning frames, which have no motion field."""

  @property
  def frames(self) -> tuple[int, ...]:
    """The indices in the clips that the motion fields belong to."""
    return generated_indices(self.conditioning_indices, self.samples.shape[2])


def write_motion(folder: Path, moving: MovingSamples, *, levels: Sequence[int], fps: float = 8.0) -> None:
  """Writes the motion fields as arrays and as images (TrIVD-GAN-FP, figure 3).

  - `motion.npz`: flow float32 [N, l, T - G, H, W, 2], see `MovingSamples`; frames int32 [T - G], the 0-based indices in
    the clips that it belongs to; levels int32, whose motion was combined, 0 the coarsest.
  - `motion.png`: of each clip the frames, below them their motion in the colours of the wheel beside them, and below
    that the same without the `drift` that all clips have in common. The longest motion of the sheet has full colour;
    its length stands above the wheel. Conditioning frames have no motion.
  - `motion_000.gif`, ...: a clip's samples, and below them their motion, with and without drift.

  Args:
    folder: it exists.
    moving: clips and fields.
    levels: see above.
    fps: frames per second of the GIFs, in (0, 50].

  Raises:
    UserError: if the disk is full.
  """
  frames = np.asarray(moving.frames, np.int32)
  with atomic_write(folder / ARRAYS_FILE) as temporary:
    np.savez_compressed(temporary, flow=moving.flow, frames=frames, levels=np.asarray(levels, np.int32))
  flows = (moving.flow, _without_drift(moving.flow))
  radius = max(*map(largest_radius, flows), SHORTEST_RADIUS)
  samples = as_rgb(moving.samples)
  kinds = [samples]
  for flow in flows:
    motion = np.full(samples.shape, GROUND, np.uint8)
    motion[:, :, frames] = flow_colors(flow, radius=radius)
    kinds.append(motion)
  shown = mark_conditioning(np.stack(kinds, axis=2), moving.conditioning_indices)
  rows = shown.reshape(-1, *shown.shape[3:])
  sheet = contact_sheet(
    rows,
    column_labels=frame_labels(moving.conditioning_indices, rows.shape[1]),
    row_labels=["frames", "motion", "no drift"] * (len(rows) // len(kinds)),
  )
  legend = contact_sheet(wheel_image(_LEGEND_SIDE)[None, None], column_labels=[f"{radius:.2g} px"])
  save_png(folder / SHEET_FILE, _beside(sheet, legend))
  for index, clip in enumerate(shown):
    below = clip.swapaxes(0, 1).reshape(-1, *clip.shape[2:])
    save_gif(folder / f"motion_{index:03d}.gif", below, fps=fps, columns=len(clip))


def write_agreement(
  folder: Path, moving: MovingSamples, truth: np.ndarray, *, levels: Sequence[int], seed: int
) -> dict[str, MotionAgreement]:
  """Writes `motion.json`, and logs it: how well the motion fields agree with the motion of the clips' one object.

  Args:
    folder: it exists.
    moving: clips and fields.
    truth: uint8 [N, T, H, W, C], the real clips.
    levels: whose motion was combined.
    seed: of the random baseline.

  Returns:
    'model': fields against the true object; 'model_own': against the object as the model has drawn it; the same with
    '_without_drift', for the fields without the `drift` of all these clips; and the
    baselines 'zero', 'random', 'constant' and 'truth' of `motion_baselines`.

  Raises:
    UserError: if the disk is full.
  """
  count, samples = moving.samples.shape[:2]
  video = moving.samples.reshape(count * samples, *moving.samples.shape[2:])
  flow = moving.flow.reshape(count * samples, *moving.flow.shape[2:])
  frames = moving.frames
  moved_by = {"model": np.repeat(truth, samples, axis=0), "model_own": video}
  fields = {"": flow, "_without_drift": flow - drift(flow)}
  found = {
    f"{name}{suffix}": compare_motion(field, video, clips, frames)
    for suffix, field in fields.items()
    for name, clips in moved_by.items()
  } | motion_baselines(truth, frames, seed=seed)
  settings = {"num_clips": count, "samples": samples, "levels": list(levels), "least_motion": LEAST_MOTION}
  plain = {name: {key: _finite(value) for key, value in result._asdict().items()} for name, result in found.items()}
  with atomic_write(folder / AGREEMENT_FILE) as temporary:
    temporary.write_text(json.dumps(settings | {"agreement": plain}, indent=2, allow_nan=False) + "\n")
  for name, result in found.items():
    logging.info(
      "motion of %s: %.1f degrees off, cosine %.3f, correlation %.3f, %.2f times as long; %d frames (%d still, %d "
      "without object)",
      *(name, result.angle, result.cosine, result.correlation, result.length_ratio),
      *(result.frames, result.still, result.absent),
    )
  return found


def _without_drift(flow: np.ndarray) -> np.ndarray:
  """Fields [N, l, F, H, W, 2] without what all clips have in common."""
  return flow - drift(flow.reshape(-1, *flow.shape[2:]))


def _finite(value: float) -> float | None:
  """JSON has no NaN."""
  return value if math.isfinite(value) else None


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Two images uint8[H, W, 3] side by side, aligned at the top."""
  height = max(len(left), len(right))
  parts = []
  for image in (left, right):
    ground = np.full((height, image.shape[1], 3), GROUND, np.uint8)
    ground[: len(image)] = image
    parts.append(ground)
  return np.concatenate(parts, axis=1)
