"""Motion fields of generated clips (TrIVD-GAN-FP, figure 3): prediction, files, and agreement with the truth."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError
from vidgen_jax.files import write_json
from vidgen_jax.gans import GANS, PredictsMotion
from vidgen_jax.media import images
from vidgen_jax.media.flow_colors import flow_colors, wheel_image
from vidgen_jax.ops.conditioning import generated_indices
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.runs import generation
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import RunSampler
from vidgen_jax.scores.metrics.motion_agreement import LEAST_MOTION, compare_motion, drift, motion_baselines
from vidgen_jax.types import Batch

COMBINED_LEVELS = 2
"""Number of finest levels whose motion is combined by default.

Figure 3 of TrIVD-GAN-FP combines "the two lower levels"; in 4.4 the "next lower level" refines a coarser one, so lower
is finer: 16x16 and 32x32 in a model of 64x64.
"""


def check_levels(sampler: RunSampler, levels: Sequence[int] | None) -> tuple[int, ...]:
  """The levels whose motion is combined, 0 the coarsest; `COMBINED_LEVELS` for None.

  Raises:
    UserError: the model predicts no motion or has no such levels, or they are not in ascending order.
  """
  gan = sampler.experiment.algorithm
  if not isinstance(gan, PredictsMotion):
    able = [name for name, (_, kind) in GANS.items() if issubclass(kind, PredictsMotion)]
    name = sampler.experiment.config.algorithm_name
    raise UserError(f"--motion: models of {name} predict no motion; use a model of {' or '.join(able)}")
  count = gan.motion_levels()
  if levels is None:
    return tuple(range(count)[-COMBINED_LEVELS:])
  levels = tuple(levels)
  if not levels or levels != tuple(sorted(set(levels))) or not set(levels) <= set(range(count)):
    found, known = (",".join(map(str, some)) for some in (levels, range(count)))
    raise UserError(f"--motion_levels={found} must be some of {known}, in this order")
  return levels


def motion_predictor(
  sampler: RunSampler, levels: Sequence[int]
) -> Callable[[Clips, jax.Array], tuple[np.ndarray, np.ndarray]]:
  """Like `Sampler.draw`, but returns (clips, motion fields of the generated frames, float32 [B, T - G, H, W, 2])."""
  experiment, options = sampler.experiment, sampler.options
  gan: Any = experiment.algorithm

  @sampler.compile
  def predict(nets: Nets, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    latent = gan.latent(key, batch["label"].shape[0], truncation=options.truncation)
    video, flow = gan.predict_motion(nets, batch, latent, num_frames=options.num_frames, levels=tuple(levels))
    return to_uint8(video), flow

  def draw(clips: Clips, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    video, flow = predict(sampler.nets(), generation.place_batch(experiment, clips.batch()), key)
    return np.asarray(video)[: len(clips)], np.asarray(flow)[: len(clips)]

  return draw


class MovingSamples(NamedTuple):
  """Clips and their motion fields."""

  samples: np.ndarray
  """uint8 [N, l, T, H, W, C], whole clips: l samples for each of N clips' conditioning frames."""
  flow: np.ndarray
  """float32 [N, l, T - G, H, W, 2], motion fields of the generated frames: how far (dx, dy) the content of each pixel
  moved since the previous frame, in pixels."""
  conditioning_indices: tuple[int, ...]
  """G 0-based indices."""

  @property
  def frames(self) -> tuple[int, ...]:
    """Indices of the frames with motion fields."""
    return generated_indices(self.conditioning_indices, self.samples.shape[2])


def write_motion(folder: Path, moving: MovingSamples, *, levels: Sequence[int], fps: float = 8.0) -> None:
  """Writes the motion fields as arrays and as images (TrIVD-GAN-FP, figure 3).

  - `motion.npz`: flow as in `MovingSamples`; frames int32 [T - G], 0-based indices; levels int32, the levels whose
    motion is combined, 0 the coarsest.
  - `motion.png`: for each clip its frames, their motion, and the motion without the `drift` common to all clips, in the
    colours of the wheel at the right; the number above it is the longest motion on the sheet, shown in full colour.
  - `motion_000.gif`, ...: the samples of a clip, and below them their motion, with and without drift.
  """
  frames = np.asarray(moving.frames, np.int32)
  np.savez_compressed(folder / "motion.npz", flow=moving.flow, frames=frames, levels=np.asarray(levels, np.int32))
  flows = (moving.flow, moving.flow - drift(moving.flow.reshape(-1, *moving.flow.shape[2:])))
  radius = max(1e-6, *(float(np.linalg.norm(flow, axis=-1).max()) for flow in flows))
  samples = images.as_rgb(moving.samples)
  kinds = {"frames": samples}
  for name, flow in zip(("motion", "no drift"), flows, strict=True):
    kinds[name] = np.full(samples.shape, images.BACKGROUND, np.uint8)
    kinds[name][:, :, frames] = flow_colors(flow, radius=radius)
  shown = images.mark_conditioning(np.stack(list(kinds.values()), axis=2), moving.conditioning_indices)
  sheet = images.contact_sheet(
    shown,
    column_labels=images.frame_labels(moving.conditioning_indices, shown.shape[3]),
    row_labels=list(kinds) * math.prod(shown.shape[:2]),
  )
  legend = images.contact_sheet(wheel_image(64)[None], column_labels=[f"{radius:.2g} px"])
  # Three rows are always higher than the legend.
  legend = np.pad(legend, [(0, len(sheet) - len(legend)), (0, 0), (0, 0)], constant_values=images.BACKGROUND)
  images.save_png(folder / "motion.png", np.concatenate([sheet, legend], axis=1))
  for index, clip in enumerate(shown):
    images.save_gif(folder / f"motion_{index:03d}.gif", clip.swapaxes(0, 1), fps=fps, columns=len(clip))


def write_agreement(
  folder: Path, moving: MovingSamples, truth: np.ndarray, *, levels: Sequence[int], seed: int
) -> None:
  """Writes `motion.json`: how well the motion fields agree with the motion of the clips' only object.

  `agreement` has the fields of `MotionAgreement` (null if no frame counts) of 'model': fields compared with the true
  object; 'model_own': with the object in the model's clips; both also with '_without_drift', after subtraction of the
  `drift` of all clips; and of the `motion_baselines`. `truth` is uint8 [N, T, H, W, C], and `seed` that of the random
  baseline.
  """
  count, samples = moving.samples.shape[:2]
  video = moving.samples.reshape(count * samples, *moving.samples.shape[2:])
  flow = moving.flow.reshape(count * samples, *moving.flow.shape[2:])
  objects = {"model": np.repeat(truth, samples, axis=0), "model_own": video}
  fields = {"": flow, "_without_drift": flow - drift(flow)}
  found = {
    f"{name}{suffix}": compare_motion(field, video, clips, moving.frames)
    for suffix, field in fields.items()
    for name, clips in objects.items()
  } | motion_baselines(truth, moving.frames, seed=seed)
  # JSON has no NaN.
  agreement = {
    name: {key: value if math.isfinite(value) else None for key, value in result._asdict().items()}
    for name, result in found.items()
  }
  settings = {"num_clips": count, "samples": samples, "levels": list(levels), "least_motion": LEAST_MOTION}
  write_json(folder / "motion.json", settings | {"agreement": agreement})
