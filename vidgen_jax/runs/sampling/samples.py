"""The samples of `vidgen sample` and their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_jax.media import images
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.motion import MovingSamples, motion_predictor, write_agreement, write_motion
from vidgen_jax.runs.sampling.samplers import RunSampler, Sampler, batches, draw_sample

SAMPLES_FILE = "samples.npz"


def generate(sampler: Sampler, clips: Clips, *, samples: int, seed: int) -> np.ndarray:
  """Generates l = `samples` whole clips for each of N clips: uint8 [N, l, num_frames, H, W, C]."""
  return np.stack([draw_sample(sampler, clips, sample=j, seed=seed) for j in range(samples)], axis=1)


def generate_with_motion(
  folder: Path, sampler: RunSampler, clips: Clips, *, levels: Sequence[int], samples: int, seed: int, fps: float = 8.0
) -> np.ndarray:
  """`generate` and `write_motion`; also `write_agreement` if the clips show one object and the truth is known."""
  predict, videos, flows = motion_predictor(sampler, levels), [], []
  for j in range(samples):
    drawn = zip(*(predict(*batch) for batch in batches(sampler, clips, sample=j, seed=seed)), strict=True)
    video, flow = map(np.concatenate, drawn)
    videos.append(video)
    flows.append(flow)
  found, flow = np.stack(videos, axis=1), np.stack(flows, axis=1)
  moving = MovingSamples(samples=found, flow=flow, conditioning_indices=sampler.conditioning_indices)
  write_motion(folder, moving, levels=levels, fps=fps)
  if sampler.experiment.config.evaluation.object_tracking and clips.truth is not None:
    write_agreement(folder, moving, clips.truth, levels=levels, seed=seed)
  return found


def write_samples(folder: Path, sampler: Sampler, clips: Clips, samples: np.ndarray, *, fps: float = 8.0) -> None:
  """Writes files to an existing folder that show all clips.

  - `samples.npz`: samples uint8 [N, l, T, H, W, C], whole clips; conditioning uint8 [N, G, H, W, C];
    conditioning_indices int32 [G], 0-based; label int32 [N]; and truth uint8 [N, T, H, W, C], if known.
  - `contact_sheet.png`: for each clip a row with the truth, if known, and one for each sample; labelled with the
    class, if there are classes.
  - `clip_000.gif`, ...: truth and samples of a clip side by side; `samples.gif`: all clips.

  Anchors have a yellow border, other conditioning frames a green one; `fps` is the frame rate of the GIFs, in (0, 50].
  """
  indices = sampler.conditioning_indices
  arrays: dict[str, Any] = {
    "samples": samples,
    "conditioning": clips.conditioning,
    "conditioning_indices": np.asarray(indices, np.int32),
    "label": clips.label,
  }
  shown = samples
  if clips.truth is not None:
    arrays["truth"] = clips.truth
    shown = np.concatenate([clips.truth[:, None], samples], axis=1)
  np.savez_compressed(folder / SAMPLES_FILE, **arrays)
  colour = images.ANCHOR_COLOUR if sampler.takes_any_frames else images.CONDITIONING_COLOUR
  videos = images.mark_conditioning(shown, indices, colour=colour)
  rows = [sampler.class_names[label] for label in clips.label for _ in videos[0]] if sampler.class_names else ()
  sheet = images.contact_sheet(videos, column_labels=images.frame_labels(indices, videos.shape[2]), row_labels=rows)
  images.save_png(folder / "contact_sheet.png", sheet)
  for index, clip in enumerate(videos):
    images.save_gif(folder / f"clip_{index:03d}.gif", clip, fps=fps, columns=len(clip))
  clips_per_row = 1 if len(videos) < 4 else 2
  images.save_gif(folder / "samples.gif", videos, fps=fps, columns=clips_per_row * videos.shape[1])
