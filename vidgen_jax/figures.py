"""`vidgen figures`: the pictures of paper 000 that show what a generator makes, and how much it varies."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags, logging

from vidgen_jax import samplers
from vidgen_jax.clips import Clips
from vidgen_jax.errors import UserError
from vidgen_jax.files import written_whole_folder
from vidgen_jax.observe.pictures import frame_labels, mark_given, save_png
from vidgen_jax.ops.given import generated_frames, take_frames
from vidgen_jax.ops.video import contact_sheet
from vidgen_jax.parallel import startup
from vidgen_jax.samplers import Sampler

SUMMARY = """Draws a run's samples over their originals, their mean and spread, and the latent blocks (paper 000).

Needs --workdir of a run and --out, the folder to make; and the run's data set. The clips are evaluation clips; a green
border marks the frames that were given. It holds
- generated_over_original.png (figure 2): of each clip one sample above the original;
- mean_of_samples.png (figure 3): of each clip one sample, the mean of --samples of them, and their standard deviation;
- latent_blocks.png (figure 4): what the decoder makes of each of the last blocks of the latent generator, for the first
  clip; only for models that have such blocks.
The samples are those of `vidgen sample` with the same --num_clips and --seed.
Example: vidgen figures --workdir=runs/between --out=figures"""

GENERATED_FILE = "generated_over_original.png"
MEAN_FILE = "mean_of_samples.png"
BLOCKS_FILE = "latent_blocks.png"


class Spread(NamedTuple):
  """How clips of the same given frames vary."""

  mean: np.ndarray
  """float64 of a clip's shape."""
  deviation: np.ndarray
  """float64 of a clip's shape: the standard deviation of the clips themselves (divided by their number)."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_string("workdir", None, "folder of the run", flag_values=flag_values)
  flags.DEFINE_string("out", None, "folder to make", flag_values=flag_values)
  flags.DEFINE_integer("num_clips", 4, "clips to show", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer("samples", 100, "clips to take the mean of", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer("seed", 0, "of the latents", flag_values=flag_values)
  flags.DEFINE_integer("step", None, "of the checkpoint; the latest by default", flag_values=flag_values)
  flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "averages or live weights", flag_values=flag_values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets, if not the run's", flag_values=flag_values)
  flags.DEFINE_bool("overwrite", False, "replaces figures that are in --out already", flag_values=flag_values)
  flags.mark_flags_as_required(["workdir", "out"], flag_values=flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  startup.enable_compilation_cache()
  with written_whole_folder(flag_values.out, overwrite=flag_values.overwrite, marker=GENERATED_FILE) as folder:
    trained = samplers.load_run(
      flag_values.workdir,
      num_clips=flag_values.num_clips,
      step=flag_values.step,
      weights=flag_values.weights,
      data_dir=flag_values.data_dir,
    )
    sampler = samplers.workdir_sampler(trained)
    clips = samplers.evaluation_clips(sampler, num_clips=flag_values.num_clips)
    if clips.truth is None:
      raise UserError(
        f"data set {sampler.data.name!r} has no clip of {sampler.num_frames} frames in split "
        f"{sampler.data.eval_split!r} to compare with; choose another with --data_dir"
      )
    draw_samples(folder, sampler, clips, samples=flag_values.samples, seed=flag_values.seed)
    draw_latent_blocks(folder, sampler, clips, seed=flag_values.seed)
  logging.info("wrote figures of %d clips to %s", len(clips), flag_values.out)


def draw_samples(folder: Path, sampler: Sampler, clips: Clips, *, samples: int, seed: int) -> None:
  """Writes the pictures of samples beside the truth, and of their mean and standard deviation.

  Args:
    folder: it exists.
    sampler: the generator.
    clips: N of them, with their truth.
    samples: l, of which mean and deviation are taken; no more than one is in memory at a time.
    seed: see `samplers.draw_sample`.

  Raises:
    UserError: if the disk is full.
  """
  logging.info("drawing %d samples of each of %d clips", samples, len(clips))
  drawn = (samplers.draw_sample(sampler, clips, sample=j, seed=seed) for j in range(samples))
  first = next(drawn)
  _save_rows(folder / GENERATED_FILE, {"generated": first, "original": clips.truth}, sampler.given_frames)
  spread = measure_spread(itertools.chain([first], drawn))
  brightest = spread.deviation.max()
  scale = 255 / brightest if brightest else 1.0
  logging.info("%s shows standard deviations times %.3g: white is %.3g of 255", MEAN_FILE, scale, 255 / scale)
  mean, deviation = (np.rint(values).astype(np.uint8) for values in (spread.mean, scale * spread.deviation))
  _save_rows(folder / MEAN_FILE, {"sample": first, "mean": mean, f"std x {scale:.3g}": deviation}, sampler.given_frames)


def measure_spread(videos: Iterable[np.ndarray]) -> Spread:
  """Mean and standard deviation of arrays of one shape, one in memory at a time (Welford's recurrence).

  Args:
    videos: uint8 of any shape; at least one.
  """
  mean = squares = 0.0
  for count, video in enumerate(videos, start=1):
    off = video - mean
    mean = mean + off / count
    squares = squares + off * (video - mean)
  return Spread(mean, np.sqrt(squares / count))


def draw_latent_blocks(folder: Path, sampler: Sampler, clips: Clips, *, seed: int) -> None:
  """Writes the picture of the latent blocks of the first clip's first sample; says so where there are none.

  Args:
    folder: it exists.
    sampler: the generator.
    clips: of which the first is shown.
    seed: see `samplers.draw_sample`.

  Raises:
    UserError: if the disk is full.
  """
  if sampler.blocks is None:
    logging.info("%s is left out: the model has no latent blocks", BLOCKS_FILE)
    return
  first = Clips(given=clips.given[:1], truth=None, label=clips.label[:1])
  decoded = sampler.blocks.decode(first, samplers.latent_key(seed, batch=0, sample=0))[:, 0]
  between = generated_frames(sampler.given_frames, sampler.num_frames)
  sheet = contact_sheet(
    mark_given(take_frames(decoded, between), ()),
    column_labels=[f"t={frame}" for frame in between],
    row_labels=[f"block {number}" for number in sampler.blocks.numbers],
  )
  save_png(folder / BLOCKS_FILE, sheet)


def _save_rows(path: Path, rows: Mapping[str, np.ndarray], given_frames: Sequence[int]) -> None:
  """For each clip a row of each array, uint8 [N, T, H, W, C], in their order."""
  videos = np.stack(list(rows.values()), axis=1)
  num_clips, _, num_frames = videos.shape[:3]
  sheet = contact_sheet(
    mark_given(videos.reshape(-1, *videos.shape[2:]), given_frames),
    column_labels=frame_labels(given_frames, num_frames),
    row_labels=list(rows) * num_clips,
  )
  save_png(path, sheet)
