"""`vidgen figures`: the papers' figures of what a generator makes, and of how much it varies."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import flags, logging

from vidgen_jax.commands.flag_parsing import did_you_mean
from vidgen_jax.errors import UserError
from vidgen_jax.files import written_whole_folder
from vidgen_jax.media.plots import require_matplotlib
from vidgen_jax.parallel import startup
from vidgen_jax.runs import generation
from vidgen_jax.runs.figures import anchor_study
from vidgen_jax.runs.figures.anchor_study import draw_anchor_study
from vidgen_jax.runs.figures.latent_walks import draw_walks
from vidgen_jax.runs.figures.sample_images import SampleImages, draw_latent_blocks
from vidgen_jax.runs.figures.stochasticity import Stochasticity
from vidgen_jax.runs.figures.truncation_sweep import draw_sweep, parse_truncations
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import Sampler
from vidgen_jax.runs.workdir import Trained

SUMMARY = """Draws a run's samples over their originals, their spread, best-of-l curves and a sweep of truncations.

Needs --workdir of a run and --out, the folder to make; and the run's data set. The clips are evaluation clips; a green
border marks the frames that were given. The figures, and the papers' that they follow:
- generated_over_original (Inbetweening, figure 2): of each clip one sample above the original.
- mean_of_samples (Inbetweening, figure 3): of each clip one sample, the mean of --samples of them, and their standard
  deviation.
- latent_blocks (Inbetweening, figure 4): what the decoder makes of each of the last blocks of the latent generator, for
  the first clip; only for models that have such blocks.
- latent_walk, class_walk, redrawn_parts (MVT-GAN, figures 9, 8 and 12): clips of a class along the line between two
  latents, of a latent between two classes, and with one part of the latent drawn anew, for --num_clips classes; only
  for models that make clips from noise.
- inference (SR-cGAN, figure 8), naive_interpolation (figure 11), inference_curve (figure 10): clips from anchors at
  random times, which have a yellow border; from the first and the last frame, beside decoded lines between their
  latents; best-of-l PSNR over --curve_clips settings of anchors, beside the deterministic model; only for models that
  take frames at any times.
- best_of_ssim (TrIVD-GAN-FP, figure 5): of each clip the sample with the best mean SSIM out of 1, 2, 5, 10, ... is chosen;
  SSIM of its frames, the mean over --curve_clips clips. PSNR, which chooses its own samples, the mean over all samples
  and the simplest guess stand beside it: the last conditioning frame, or a cross-fade where the last frame is given.
- truncation (TrIVD-GAN-FP, D.2; only with --truncations): SSIM, PSNR, object scores and diversity of --curve_clips clips
  at each truncation; and truncation_samples.png, samples of the same clips and latents at each. It makes as many clips
  again for each truncation.
--only chooses among these names. The curves and the sweep also write their numbers as JSON, and need matplotlib (the
extra [plot]): without it the command says so before it starts. The samples are those of `vidgen sample` with the same
--seed.
Example: vidgen figures --workdir=runs/between --out=figures
Example: vidgen figures --workdir=runs/shapes --only=best_of_ssim,truncation --samples=20 --truncations=0,0.5,1,none
  --out=curves"""

BUCKET_FLAGS = ("workdir", "out")

GENERATED, MEAN, BLOCKS, LATENT_WALK, CLASS_WALK, PARTS, BEST_OF, TRUNCATION = (
  "generated_over_original",
  "mean_of_samples",
  "latent_blocks",
  "latent_walk",
  "class_walk",
  "redrawn_parts",
  "best_of_ssim",
  "truncation",
)
STUDY = (anchor_study.INFERENCE, anchor_study.NAIVE, anchor_study.CURVE)
FIGURES = (GENERATED, MEAN, BLOCKS, LATENT_WALK, CLASS_WALK, PARTS, *STUDY, BEST_OF, TRUNCATION)
"""What `--only` may name."""

WALKS = (LATENT_WALK, CLASS_WALK, PARTS)

MEASURED = frozenset({anchor_study.CURVE, BEST_OF, TRUNCATION})
"""Figures of numbers, over --curve_clips clips and drawn with matplotlib; the others show --num_clips clips."""

INDEX_FILE = "figures.json"
"""Which figures the folder holds, and where their samples came from."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_string("workdir", None, "folder of the run", flag_values=flag_values)
  flags.DEFINE_string("out", None, "folder to make", flag_values=flag_values)
  flags.DEFINE_list("only", [], "figures to draw, by name; all by default", flag_values=flag_values)
  flags.DEFINE_integer("num_clips", 4, "clips, or classes, to show", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer("samples", 100, "clips to make of each", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer(
    "curve_clips",
    64,
    f"clips that curves are the mean of; 0 leaves {BEST_OF} out",
    lower_bound=0,
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    "truncations", [], "cuts of the latents to compare, such as 0,0.25,0.5,0.8,1,2,none", flag_values=flag_values
  )
  flags.DEFINE_integer("seed", 0, "of the latents", flag_values=flag_values)
  flags.DEFINE_integer("step", None, "of the checkpoint; the latest by default", flag_values=flag_values)
  flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "averages or live weights", flag_values=flag_values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets, if not the run's", flag_values=flag_values)
  flags.DEFINE_bool("overwrite", False, "replaces all figures that are in --out already", flag_values=flag_values)
  flags.mark_flags_as_required(["workdir", "out"], flag_values=flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  truncations = parse_truncations(flag_values.truncations)
  curve_clips, samples, seed = flag_values.curve_clips, flag_values.samples, flag_values.seed
  chosen = choose_figures(
    only=flag_values.only, curve_clips=curve_clips, samples=samples, with_truncations=bool(truncations)
  )
  startup.enable_compilation_cache()
  with written_whole_folder(flag_values.out, overwrite=flag_values.overwrite, marker=INDEX_FILE) as folder:
    num_measured = curve_clips if chosen & MEASURED else 0
    num_shown = flag_values.num_clips if chosen - {BEST_OF} else 0
    trained = samplers.load_run(
      flag_values.workdir,
      num_clips=max(num_measured, num_shown),
      step=flag_values.step,
      weights=flag_values.weights,
      data_dir=flag_values.data_dir,
    )
    sampler = samplers.workdir_sampler(trained)
    chosen = _possible_for(sampler, chosen, named=flag_values.only)
    clips = _clips_with_truth(sampler, num_clips=max(num_measured, num_shown))
    shown, measured = _first(clips, num_shown), _first(clips, num_measured)
    origin = describe_origin(trained, sampler) | {"samples": samples, "seed": seed}
    _draw_samples(folder, sampler, clips, chosen, shown=shown, measured=measured, origin=origin)
    if BLOCKS in chosen:
      draw_latent_blocks(folder / f"{BLOCKS}.png", sampler, shown, seed=seed)
    if walks := [name for name in WALKS if name in chosen]:
      draw_walks(folder, trained.experiment, sampler, walks, num_classes=flag_values.num_clips, seed=seed)
    if study := [name for name in STUDY if name in chosen]:
      draw_anchor_study(folder, trained.experiment, sampler, study, shown=shown, measured=measured, origin=origin)
    if TRUNCATION in chosen:
      draw_sweep(folder, trained.experiment, sampler, truncations, shown=shown, measured=measured, origin=origin)
    names = sorted(path.name for path in folder.iterdir())
    (folder / INDEX_FILE).write_text(json.dumps(origin | {"files": names}, indent=2) + "\n", encoding="utf-8")
  logging.info("wrote %s to %s", ", ".join(names), flag_values.out)


def choose_figures(*, only: Sequence[str], curve_clips: int, samples: int, with_truncations: bool) -> frozenset[str]:
  """Which of `FIGURES` to draw, as the flags say.

  Args:
    only: names; all that are possible if empty.
    curve_clips: 0 leaves `best_of_ssim` out.
    samples: of each clip.
    with_truncations: whether there are truncations to compare; without, `truncation` is left out.

  Raises:
    UserError: if a name is unknown, the flags contradict each other, or matplotlib is not installed and needed.
  """
  if unknown := [name for name in only if name not in FIGURES]:
    raise UserError(f"--only: {unknown[0]!r} is none of {', '.join(FIGURES)}{did_you_mean(unknown[0], FIGURES)}")
  curves = {BEST_OF, anchor_study.CURVE}
  possible = set(FIGURES) - (set() if curve_clips else curves) - (set() if with_truncations else {TRUNCATION})
  chosen = frozenset(only or possible)
  if curves := curves & (chosen - possible):
    raise UserError(f"--only={min(curves)} needs clips to take the mean of; set --curve_clips above 0")
  if TRUNCATION in chosen - possible:
    raise UserError(f"--only={TRUNCATION} needs truncations to compare, such as --truncations=0,0.5,1,none")
  if with_truncations and TRUNCATION not in chosen:
    raise UserError(f"--truncations and --only without {TRUNCATION} exclude each other; leave one of them out")
  if TRUNCATION in chosen and not curve_clips:
    raise UserError(f"--truncations needs --curve_clips above 0; to leave {BEST_OF} out, give --only")
  if TRUNCATION in chosen and samples < 2:
    raise UserError(f"--samples={samples}: --truncations needs at least 2, how they differ being what is compared")
  if plots := chosen & MEASURED:
    others = ",".join(name for name in FIGURES if name not in MEASURED)
    require_matplotlib(" and ".join(sorted(plots)), remedy=f"leave out what needs it with --only={others}")
  return chosen


def describe_origin(trained: Trained, sampler: Sampler) -> dict[str, Any]:
  """Where the samples of a run come from, JSON-compatible."""
  return {
    "experiment": trained.experiment.config.name,
    "step": trained.step,
    "weights": trained.weights,
    "data": sampler.data.name,
    "split": sampler.data.eval_split,
    "num_frames": sampler.num_frames,
    "conditioning_indices": list(sampler.conditioning_indices),
    "truncation": generation.sampling_options(trained.experiment).truncation,
  }


def _possible_for(sampler: Sampler, chosen: frozenset[str], *, named: Sequence[str]) -> frozenset[str]:
  """Without what compares each clip with its truth, if the model makes clips from noise, which have none."""
  if sampler.conditioning_indices or BEST_OF not in chosen:
    return chosen
  if BEST_OF in named:
    raise UserError(f"--only={BEST_OF} compares samples with their true clips, and clips from noise have none")
  return chosen - {BEST_OF}


class _Observer(Protocol):
  def add(self, videos: np.ndarray) -> None: ...


def _draw_samples(
  folder: Path,
  sampler: Sampler,
  clips: Clips,
  chosen: frozenset[str],
  *,
  shown: Clips,
  measured: Clips,
  origin: dict[str, Any],
) -> None:
  """The figures that are made of all samples, in one pass: one sample of all clips is in memory at a time."""
  conditioning_indices, samples = sampler.conditioning_indices, origin["samples"]
  observers: list[_Observer] = []
  if chosen & {GENERATED, MEAN}:
    images = SampleImages(shown.truth, conditioning_indices)
    observers.append(images)
  if BEST_OF in chosen:
    curves = Stochasticity(measured.truth, conditioning_indices, samples=samples, batch_size=sampler.batch_size)
    observers.append(curves)
  if not observers:
    return
  needed = samples if chosen & {MEAN, BEST_OF} else 1
  logging.info("drawing %d samples of each of %d clips", needed, len(clips))
  for j in range(needed):
    videos = samplers.draw_sample(sampler, clips, sample=j, seed=origin["seed"])
    for observer in observers:
      observer.add(videos)
  if GENERATED in chosen:
    images.save_first(folder / f"{GENERATED}.png")
  if MEAN in chosen:
    images.save_spread(folder / f"{MEAN}.png")
  if BEST_OF in chosen:
    curves.save(folder, origin)


def _clips_with_truth(sampler: Sampler, *, num_clips: int) -> Clips:
  clips = samplers.evaluation_clips(sampler, num_clips=num_clips)
  if clips.truth is None:
    raise UserError(
      f"data set {sampler.data.name!r} has no clip of {sampler.num_frames} frames in split "
      f"{sampler.data.eval_split!r} to compare with; choose another with --data_dir"
    )
  return clips


def _first(clips: Clips, count: int) -> Clips:
  return dataclasses.replace(
    clips, conditioning=clips.conditioning[:count], truth=clips.truth[:count], label=clips.label[:count]
  )
