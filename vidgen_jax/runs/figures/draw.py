"""Draws figures of a run's clips into one folder; see `vidgen figures`."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.files import write_json
from vidgen_jax.runs.figures.anchor_study import CURVE, STUDY, draw_anchor_study
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.figures.latent_walks import WALKS, draw_walks
from vidgen_jax.runs.figures.sample_images import SampleImages, draw_latent_blocks
from vidgen_jax.runs.figures.stochasticity import Stochasticity
from vidgen_jax.runs.figures.truncation_sweep import draw_sweep
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import RunSampler, draw_sample, evaluation_clips, workdir_sampler
from vidgen_jax.runs.workdir import Trained

GENERATED, MEAN, BLOCKS = "generated_over_original", "mean_of_samples", "latent_blocks"
BEST_OF, TRUNCATION = "best_of_ssim", "truncation"

FIGURES = (GENERATED, MEAN, BLOCKS, *WALKS, *STUDY, BEST_OF, TRUNCATION)
"""Names of all figures."""

MEASURED = frozenset({CURVE, BEST_OF, TRUNCATION})
"""Plots of `curve_clips` clips, which need matplotlib; the other figures show `num_clips` clips."""

INDEX_FILE = "figures.json"


def clip_counts(names: Set[str], *, num_clips: int, curve_clips: int) -> tuple[int, int]:
  """The numbers of clips that figures need: (for images, for curves)."""
  return num_clips if names - {BEST_OF} else 0, curve_clips if names & MEASURED else 0


def draw_figures(
  folder: Path,
  trained: Trained,
  names: Set[str],
  *,
  num_clips: int,
  curve_clips: int,
  samples: int,
  truncations: Sequence[float | None] = (),
  seed: int = 0,
) -> list[str]:
  """Writes figures and `INDEX_FILE` to an empty folder; returns the names of the figures' files.

  Args:
    folder: an empty folder.
    trained: weights of the run.
    names: some of `FIGURES`; those that the model does not support are skipped with a log message.
    num_clips: number of clips, or of classes, in images.
    curve_clips: number of clips in `MEASURED`.
    samples: number of samples of each clip.
    truncations: for `TRUNCATION`, in ascending order; None for no truncation.
    seed: seed of the latents.
  """
  sampler = workdir_sampler(trained)
  num_shown, num_measured = clip_counts(names, num_clips=num_clips, curve_clips=curve_clips)
  clips = evaluation_clips(sampler, num_clips=max(num_shown, num_measured))
  if clips.truth is None:
    raise UserError(
      f"data set {sampler.data.name!r} has no clip of {sampler.num_frames} frames in split "
      f"{sampler.data.eval_split!r} for comparison; choose another with --data_dir"
    )
  inputs = FigureInputs(
    folder=folder,
    sampler=sampler,
    shown=clips[:num_shown],
    measured=clips[:num_measured],
    samples=samples,
    seed=seed,
    origin=_origin(trained, sampler, samples=samples, seed=seed),
  )
  _draw_samples(inputs, clips, names)
  if BLOCKS in names:
    draw_latent_blocks(folder / f"{BLOCKS}.png", inputs)
  if walks := [name for name in WALKS if name in names]:
    draw_walks(inputs, walks, num_classes=num_clips)
  if study := [name for name in STUDY if name in names]:
    draw_anchor_study(inputs, study)
  if TRUNCATION in names:
    draw_sweep(inputs, truncations)
  if not (files := sorted(path.name for path in folder.iterdir())):
    raise UserError(f"--only={','.join(sorted(names))}: this model has none of these figures; choose others")
  write_json(folder / INDEX_FILE, {**inputs.origin, "files": files})
  return files


def _origin(trained: Trained, sampler: RunSampler, *, samples: int, seed: int) -> dict[str, Any]:
  return {
    "experiment": trained.experiment.config.name,
    "step": trained.step,
    "weights": trained.weights,
    "data": sampler.data.name,
    "split": sampler.data.eval_split,
    "num_frames": sampler.num_frames,
    "conditioning_indices": list(sampler.conditioning_indices),
    "truncation": sampler.options.truncation,
    "samples": samples,
    "seed": seed,
  }


def _draw_samples(inputs: FigureInputs, clips: Clips, names: Set[str]) -> None:
  """Figures of all samples, with one sample of all clips in memory at a time."""
  sampler, folder = inputs.sampler, inputs.folder
  conditioning, images, curves = sampler.conditioning_indices, None, None
  if names & {GENERATED, MEAN}:
    images = SampleImages(inputs.shown.known_truth(), conditioning)
  if BEST_OF in names and conditioning:
    truth = inputs.measured.known_truth()
    curves = Stochasticity(truth, conditioning, samples=inputs.samples, batch_size=sampler.batch_size)
  elif BEST_OF in names:
    logging.info("skipped %s: clips from noise have no truth for comparison", BEST_OF)
  observers = [observer for observer in (images, curves) if observer is not None]
  if not observers:
    return
  needed = inputs.samples if MEAN in names or curves is not None else 1
  logging.info("generating %d samples of each of %d clips", needed, len(clips))
  for j in range(needed):
    videos = draw_sample(sampler, clips, sample=j, seed=inputs.seed)
    for observer in observers:
      observer.add(videos)
  if images is not None and GENERATED in names:
    images.save_first(folder / f"{GENERATED}.png")
  if images is not None and MEAN in names:
    images.save_spread(folder / f"{MEAN}.png")
  if curves is not None:
    curves.save(folder, inputs.origin)
