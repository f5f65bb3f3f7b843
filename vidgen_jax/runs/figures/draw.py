"""Draws figures of a run's clips into one folder; see `vidgen figures`."""

from collections.abc import Sequence, Set
from pathlib import Path

from vidgen_jax.errors import UserError
from vidgen_jax.files import write_json
from vidgen_jax.runs.figures.anchor_study import CURVE, STUDY, draw_anchor_study
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.figures.latents import BLOCKS, WALKS, draw_latent_blocks, draw_walks
from vidgen_jax.runs.figures.samples import BEST_OF, GENERATED, MEAN, draw_samples
from vidgen_jax.runs.figures.truncation_sweep import TRUNCATION, draw_sweep
from vidgen_jax.runs.sampling.clips import evaluation_clips
from vidgen_jax.runs.sampling.samplers import workdir_sampler
from vidgen_jax.runs.workdir import Trained

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
  """Writes `names`, some of `FIGURES`, and `INDEX_FILE` to an empty folder; returns the names of the figures' files.

  Images have `num_clips` clips or classes, `MEASURED` has `curve_clips`, each with `samples` samples; `truncations` are
  in ascending order, None for no truncation. Figures that the model does not support are skipped with a log message.

  Raises:
    UserError: the data set has no clips of the model's length, or the model supports none of the figures.
  """
  sampler = workdir_sampler(trained)
  num_shown, num_measured = clip_counts(names, num_clips=num_clips, curve_clips=curve_clips)
  clips = evaluation_clips(sampler, num_clips=max(num_shown, num_measured))
  if clips.truth is None:
    raise UserError(
      f"data set {sampler.data.name!r} has no clip of {sampler.num_frames} frames in split "
      f"{sampler.split!r} for comparison; choose another with --data, --split or --data_dir"
    )
  shown, measured = clips[:num_shown], clips[:num_measured]
  inputs = FigureInputs(
    folder=folder, trained=trained, sampler=sampler, shown=shown, measured=measured, samples=samples, seed=seed
  )
  draw_samples(inputs, names)
  if BLOCKS in names:
    draw_latent_blocks(inputs)
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
