"""`vidgen figures`: the papers' figures of generated clips and of how much they vary."""

from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from vidgen_jax.commands import dataset_flags
from vidgen_jax.commands.flag_parsing import did_you_mean
from vidgen_jax.core.config import MAX_SEED
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write_dir
from vidgen_jax.gans import GANS, InfersClips
from vidgen_jax.media.plots import require_matplotlib
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.runs.figures.anchor_study import CURVE, SAMPLES, SETTINGS
from vidgen_jax.runs.figures.draw import FIGURES, INDEX_FILE, MEASURED, clip_counts, draw_figures
from vidgen_jax.runs.figures.samples import BEST_OF, MEAN
from vidgen_jax.runs.figures.truncation_sweep import TRUNCATION, parse_truncations
from vidgen_jax.runs.sampling.samplers import load_run
from vidgen_jax.runs.workdir import load_config

SUMMARY = """Draws a run's samples above their originals, their spread, best-of-l curves and a truncation sweep.

Requires --workdir, a run, --out, the folder to create, and the run's data set. The clips are evaluation clips, with
--data those of another data set; conditioning frames have a green border.
The figures, with the figures of the papers that they reproduce:
- generated_over_original (Inbetweening, figure 2): each clip's first sample above the original.
- mean_of_samples (Inbetweening, figure 3): each clip's first sample, the mean of --samples of them, and their standard
  deviation.
- latent_blocks (Inbetweening, figure 4): each block of the last level of the latent generator, decoded, for the first
  clip; for models with latent blocks.
- latent_walk, class_walk, redrawn_parts (MVT-GAN, figures 9, 8 and 12): clips of a class along the line between two
  latents, clips of a latent along the line between two classes, and clips with one part of the latent redrawn, for
  --num_clips classes; for models that generate from noise.
- inference, naive_interpolation, inference_curve (SR-cGAN, figures 8, 11 and 10): clips from anchors at random times,
  which have a yellow border; from the first and the last frame, compared with lines between their latents, decoded by
  the networks of the first phase; best-of-l PSNR over --curve_clips clips, each with other random anchors, compared
  with the deterministic model; for models that accept any conditioning frames.
- best_of_ssim (TrIVD-GAN-FP, figure 5): SSIM by frame of each clip's best sample out of 1, 2, 5, 10, ..., as mean over
  --curve_clips clips, and the same for PSNR; compared with the mean over all samples, and the simplest guess, which
  repeats the last conditioning frame, or cross-fades if the last frame is known.
- truncation (TrIVD-GAN-FP, D.2; needs --truncations): SSIM, PSNR, object scores and diversity of --curve_clips clips at
  each truncation; and truncation_samples.png, samples of the same clips and latents at each. Each truncation takes as
  long as all samples of the other figures.
--only selects some of them. Figures that the model does not support are skipped. Curves are also written as JSON and
need matplotlib (the extra [plot]). The samples equal those of `vidgen sample` with the same --seed.
Example: vidgen figures --workdir=runs/between --out=figures
Example: vidgen figures --workdir=runs/shapes --only=best_of_ssim,truncation --samples=20 --truncations=0,0.5,1,none
  --out=curves"""

BUCKET_FLAGS = ("workdir", "out")

USUAL_CLIPS, USUAL_SAMPLES = 64, 100
"""Numbers of clips in curves and of samples; models that accept any conditioning frames follow SR-cGAN, figure 10."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the command's flags."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_string("workdir", None, "folder of the run", **values)
  flags.DEFINE_string("out", None, "folder to create", **values)
  flags.DEFINE_list("only", [], "names of the figures to draw; default: all", **values)
  flags.DEFINE_integer("num_clips", 4, "number of clips, or of classes, in images", lower_bound=1, **values)
  for name, usual, anchors, text, bound in (
    ("samples", USUAL_SAMPLES, SAMPLES, "number of samples of each clip", 1),
    ("curve_clips", USUAL_CLIPS, SETTINGS, "number of clips in curves; 0 omits curves", 0),
  ):
    text = f"{text}; default: {usual}, or {anchors} for models that accept any conditioning frames"
    flags.DEFINE_integer(name, None, text, lower_bound=bound, **values)
  flags.DEFINE_list("truncations", [], "truncations to compare, such as 0,0.25,0.5,0.8,1,2,none", **values)
  text = "mvt: means of the latent's parts z_A, z_B and z_C instead of 0; the authors' sampling code uses 4,2,0"
  flags.DEFINE_list("sampling_means", [], text, **values)
  flags.DEFINE_integer("seed", 0, "seed of the latents", lower_bound=0, upper_bound=MAX_SEED, **values)
  flags.DEFINE_integer("step", None, "step of the checkpoint; default: the latest", **values)
  flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "averaged or live weights", **values)
  dataset_flags.define_dataset_flags(flag_values)
  flags.DEFINE_bool("overwrite", False, "replaces all existing figures in --out", **values)
  flags.mark_flags_as_required(["workdir", "out"], flag_values=flag_values)


def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  truncations = parse_truncations(flag_values.truncations)
  curve_clips, samples = flag_values.curve_clips, flag_values.samples
  names = choose_figures(
    only=flag_values.only,
    curve_clips=USUAL_CLIPS if curve_clips is None else curve_clips,
    samples=samples or USUAL_SAMPLES,
    with_truncations=bool(truncations),
  )
  used = {"samples": names & {MEAN, *MEASURED}, "curve_clips": names & MEASURED, "num_clips": names - {BEST_OF}}
  for name, figures in used.items():
    if flag_values[name].present and flag_values[name].value and not figures:
      raise UserError(f"--{name} has no effect on {', '.join(sorted(names))}; leave it out")
  infers = issubclass(GANS[load_config(flag_values.workdir).algorithm_name][1], InfersClips)
  if curve_clips is None:
    curve_clips = SETTINGS if infers else USUAL_CLIPS
  samples = samples or (SAMPLES if infers else USUAL_SAMPLES)
  counts = {"num_clips": flag_values.num_clips, "curve_clips": curve_clips}
  enable_compilation_cache()
  with atomic_write_dir(flag_values.out, overwrite=flag_values.overwrite, marker=INDEX_FILE) as folder:
    trained = load_run(
      flag_values.workdir,
      num_clips=max(clip_counts(names, **counts)),
      step=flag_values.step,
      weights=flag_values.weights,
      sampling_means=flag_values.sampling_means,
      **dataset_flags.dataset_options(flag_values),
    )
    files = draw_figures(
      folder, trained, names, **counts, samples=samples, truncations=truncations, seed=flag_values.seed
    )
  logging.info("wrote %s to %s", ", ".join(files), flag_values.out)


def choose_figures(*, only: Sequence[str], curve_clips: int, samples: int, with_truncations: bool) -> frozenset[str]:
  """The figures that the flags select.

  Raises:
    UserError: a name is unknown, the flags contradict each other, or matplotlib is needed and not installed.
  """
  if unknown := [name for name in only if name not in FIGURES]:
    hint = did_you_mean(unknown[0], FIGURES)
    raise UserError(f"--only: {unknown[0]!r} must be one of {', '.join(FIGURES)}{hint}")
  curves = {BEST_OF, CURVE}
  possible = set(FIGURES) - (set() if curve_clips else curves) - (set() if with_truncations else {TRUNCATION})
  chosen = frozenset(only or possible)
  if missing := curves & (chosen - possible):
    raise UserError(f"--only={min(missing)} is a mean over clips; set --curve_clips above 0")
  if TRUNCATION in chosen - possible:
    raise UserError(f"--only={TRUNCATION} needs truncations to compare, such as --truncations=0,0.5,1,none")
  if with_truncations and TRUNCATION not in chosen:
    raise UserError(f"--truncations and --only without {TRUNCATION} exclude each other; remove one of them")
  if TRUNCATION in chosen and not curve_clips:
    raise UserError(f"--truncations needs --curve_clips above 0; use --only to omit {BEST_OF}")
  if TRUNCATION in chosen and samples < 2:
    raise UserError(f"--samples={samples}: --truncations needs at least 2, to measure how samples differ")
  if plots := chosen & MEASURED:
    others = ",".join(name for name in FIGURES if name not in MEASURED)
    require_matplotlib(" and ".join(sorted(plots)), remedy=f"draw only the others with --only={others}")
  return chosen
