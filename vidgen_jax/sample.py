"""`vidgen sample`: continues clips with the generator of a run or of an export."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax import clips as clip_sources
from vidgen_jax import config as configs
from vidgen_jax import scoring, workdir
from vidgen_jax.clips import Clips
from vidgen_jax.config import ExperimentConfig
from vidgen_jax.core.state import Nets
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.exported import load_config_json, load_export
from vidgen_jax.files import written_whole_folder
from vidgen_jax.observe.pictures import CONDITIONING_COLOUR, PREDICTED_COLOUR, save_gif, save_png
from vidgen_jax.ops.latents import draw_latent
from vidgen_jax.ops.video import add_border, contact_sheet
from vidgen_jax.parallel import startup
from vidgen_jax.workdir import Trained

SUMMARY = """Continues clips with a trained generator; writes a contact sheet, GIFs and samples.npz.

Needs --out, and either --workdir of a run or --export, a folder made by `vidgen export`. The clips are evaluation clips
of the data set, or those of --input: a video file, a frame strip, or a folder of them.
Example: vidgen sample --workdir=runs/shapes --num_clips=4 --samples=3 --truncation=0.8 --out=samples"""

SAMPLES_FILE = "samples.npz"
SHEET_FILE = "contact_sheet.png"
GIF_FILE = "samples.gif"
_SHOWN_SIDE = 64


@dataclasses.dataclass(frozen=True)
class Sampler:
  """A generator that is ready to be used, wherever it came from."""

  draw: Callable[[Clips, jax.Array], np.ndarray]
  """(clips, key of the latents) -> predicted frames, uint8 [B, num_frames - Tc, H, W, C]."""
  batch_size: int
  """Clips at once, at most."""
  conditioning_frames: int
  num_frames: int
  class_names: tuple[str, ...]
  """Empty for a model without classes."""
  data: DataConfig
  """What the model was trained on."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_string("workdir", None, "folder of a run", flag_values=flag_values)
  flags.DEFINE_string("export", None, "folder of an export, in place of --workdir", flag_values=flag_values)
  flags.DEFINE_integer("step", None, "of the run's checkpoint; the latest by default", flag_values=flag_values)
  flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "of the run: averages or live weights", flag_values=flag_values)
  flags.DEFINE_string("input", None, "video file, frame strip or folder of them", flag_values=flag_values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets, if not the run's", flag_values=flag_values)
  flags.DEFINE_integer("num_clips", 8, "clips to continue", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer("samples", 1, "continuations of each clip", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer(
    "num_frames",
    None,
    "length of the clips, the given frames included; may exceed the trained length",
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "truncation", None, "cuts latents at +- this; 0 for the typical one; negative for no cut", flag_values=flag_values
  )
  flags.DEFINE_string("class", None, "name or index; each clip's own by default", flag_values=flag_values)
  flags.DEFINE_integer("seed", 0, "of the latents", flag_values=flag_values)
  flags.DEFINE_string("out", None, "folder to make", flag_values=flag_values)
  flags.DEFINE_bool("overwrite", False, "replaces samples that are in --out already", flag_values=flag_values)
  flags.mark_flag_as_required("out", flag_values=flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  if (flag_values.workdir is None) == (flag_values.export is None):
    raise UserError("give either --workdir of a run or --export, a folder made by `vidgen export`")
  startup.enable_compilation_cache()
  with written_whole_folder(flag_values.out, overwrite=flag_values.overwrite, marker=SAMPLES_FILE) as folder:
    sampler = _from_export(flag_values) if flag_values.export is not None else _from_workdir(flag_values)
    clips = _clips(flag_values, sampler)
    samples = sample(sampler, clips, samples=flag_values.samples, seed=flag_values.seed)
    write_samples(folder, clips, samples)
  logging.info("wrote %d samples of %d clips to %s", samples.shape[1], len(clips), flag_values.out)


def sample(sampler: Sampler, clips: Clips, *, samples: int, seed: int) -> np.ndarray:
  """Continues every clip several times.

  Args:
    sampler: the generator.
    clips: N of them.
    samples: l, continuations of each.
    seed: of the latents. An export and the run it came from give the same pictures for the same seed.

  Returns:
    uint8 [N, l, num_frames - Tc, H, W, C].
  """
  key, drawn = jax.random.key(seed), []
  for i, start in enumerate(range(0, len(clips), sampler.batch_size)):
    part = slice(start, start + sampler.batch_size)
    batch = Clips(conditioning=clips.conditioning[part], truth=None, label=clips.label[part])
    keys = [scoring.sample_key(key, i, j) for j in range(samples)]
    drawn.append(np.stack([sampler.draw(batch, sample_key) for sample_key in keys], axis=1))
  return np.concatenate(drawn)


def write_samples(folder: Path, clips: Clips, samples: np.ndarray) -> None:
  """Writes all files of the command.

  - `samples.npz`: conditioning uint8 [N, Tc, H, W, C]; samples uint8 [N, l, Tp, H, W, C]; label int32 [N]; and truth
    uint8 [N, Tp, H, W, C] where it is known.
  - `contact_sheet.png`: for each clip a row with the truth, where it is known, and one for each sample.
  - `clip_000.gif`, ...: truth and samples of a clip side by side; `samples.gif`: all clips.

  Args:
    folder: it exists.
    clips: N of them.
    samples: as from `sample`.

  Raises:
    UserError: if the disk is full.
  """
  arrays = {"conditioning": clips.conditioning, "samples": samples, "label": clips.label}
  if clips.truth is not None:
    arrays["truth"] = clips.truth
  np.savez_compressed(folder / SAMPLES_FILE, **arrays)
  continuations = samples if clips.truth is None else np.concatenate([clips.truth[:, None], samples], axis=1)
  given = np.broadcast_to(clips.conditioning[:, None], (*continuations.shape[:2], *clips.conditioning.shape[1:]))
  zoom = max(1, _SHOWN_SIDE // samples.shape[3])
  rows = [
    add_border(np.repeat(np.repeat(part, zoom, axis=3), zoom, axis=4), colour=colour)
    for part, colour in ((given, CONDITIONING_COLOUR), (continuations, PREDICTED_COLOUR))
  ]
  videos = np.concatenate(rows, axis=2)
  labels = [f"given {index + 1}" for index in range(given.shape[2])]
  labels += [f"+{index + 1}" for index in range(samples.shape[2])]
  save_png(folder / SHEET_FILE, contact_sheet(videos.reshape(-1, *videos.shape[2:]), column_labels=labels))
  for index, clip in enumerate(videos):
    save_gif(folder / f"clip_{index:03d}.gif", clip, columns=len(clip))
  clips_in_a_row = 1 if len(videos) < 4 else 2
  save_gif(folder / GIF_FILE, videos.reshape(-1, *videos.shape[2:]), columns=clips_in_a_row * videos.shape[1])


def class_index(text: str, class_names: tuple[str, ...]) -> int:
  """The label that `--class` means.

  Raises:
    UserError: if there is no such class, naming those that there are.
  """
  if not class_names:
    raise UserError(f"--class={text}: the model was trained without classes")
  if text in class_names:
    return class_names.index(text)
  if text.isdecimal() and int(text) < len(class_names):
    return int(text)
  known = ", ".join(f"{index} = {name}" for index, name in enumerate(class_names))
  raise UserError(f"--class={text} is not a class of the model; it has {known}")


def _from_workdir(flag_values: flags.FlagValues) -> Sampler:
  config = _with_data_dir(workdir.load_config(flag_values.workdir), flag_values)
  # No more clips at once than are wanted; the devices must divide them.
  wanted = -(-flag_values.num_clips // jax.device_count()) * jax.device_count()
  evaluation = dataclasses.replace(config.evaluation, batch_size=min(config.evaluation.batch_size, wanted))
  config = dataclasses.replace(config, evaluation=evaluation)
  trained = workdir.load_trained(flag_values.workdir, config=config, step=flag_values.step, weights=flag_values.weights)
  return workdir_sampler(trained, num_frames=flag_values.num_frames, truncation=flag_values.truncation)


def workdir_sampler(trained: Trained, *, num_frames: int | None = None, truncation: float | None = None) -> Sampler:
  """The generator of a run, with standing statistics for the length of the clips.

  Args:
    trained: the weights.
    num_frames: see `scoring.sampling_options`.
    truncation: see `scoring.sampling_options`.

  Raises:
    UserError: if the length does not fit the model; when first used, if the data set is missing.
  """
  experiment = trained.experiment
  settings = experiment.config.evaluation
  options = scoring.sampling_options(experiment, num_frames=num_frames, truncation=truncation)

  @functools.cache
  def prepared() -> Nets:
    # When the first clips come, not before: a mistake in what they are to be is then told at once.
    logging.info("standing statistics over %d batches", settings.standing_batches)
    key, passes = scoring.standing_key(experiment), settings.standing_batches
    return scoring.prepare_nets(experiment, trained.nets, key, options=options, num_batches=passes)

  def draw(clips: Clips, key: jax.Array) -> np.ndarray:
    batch = {"video": clips.conditioning, "label": clips.label}
    return scoring.predict(experiment, prepared(), batch, key, options=options)

  has_classes = getattr(experiment.config.algorithm, "num_classes", 1) > 1
  return Sampler(
    draw=draw,
    batch_size=settings.batch_size,
    conditioning_frames=experiment.algorithm.conditioning_frames,
    num_frames=options.num_frames,
    class_names=trained.class_names if has_classes else (),
    data=experiment.config.data,
  )


def _from_export(flag_values: flags.FlagValues) -> Sampler:
  for name, default in {"step": None, "weights": "ema"}.items():
    if flag_values[name].value != default:
      raise UserError(f"--{name} belongs to --workdir; an export holds the averages of one step")
  config = _with_data_dir(configs.from_dict(load_config_json(flag_values.export)), flag_values)
  return export_sampler(
    flag_values.export, config, num_frames=flag_values.num_frames, truncation=flag_values.truncation
  )


def export_sampler(
  folder: str, config: ExperimentConfig, *, num_frames: int | None = None, truncation: float | None = None
) -> Sampler:
  """The generator of an export.

  Args:
    folder: made by `vidgen export`.
    config: of the run that was exported.
    num_frames: must be that of the export, or None.
    truncation: of the latents; None for `config.evaluation.truncation`, negative for no cut.

  Raises:
    UserError: if it is no export, or has another length.
  """
  generator = load_export(folder)
  if num_frames not in (None, generator.num_frames):
    raise UserError(
      f"--num_frames={num_frames}: export {folder} makes clips of {generator.num_frames} frames; "
      f"export the run again with --num_frames={num_frames}, or sample with --workdir"
    )
  truncation = config.evaluation.truncation if truncation is None else truncation
  truncation = None if truncation < 0 else truncation

  def draw(clips: Clips, key: jax.Array) -> np.ndarray:
    shape = (len(clips), generator.latent_features)
    latent = np.asarray(draw_latent(key, shape, truncation=truncation))
    return generator(clips.conditioning, latent, clips.label)

  return Sampler(
    draw=draw,
    batch_size=config.evaluation.batch_size,
    conditioning_frames=generator.conditioning_frames,
    num_frames=generator.num_frames,
    class_names=generator.class_names,
    data=config.data,
  )


def _with_data_dir(config: ExperimentConfig, flag_values: flags.FlagValues) -> ExperimentConfig:
  if flag_values.data_dir is None:
    return config
  return dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=flag_values.data_dir))


def _clips(flag_values: flags.FlagValues, sampler: Sampler) -> Clips:
  chosen = flag_values["class"].value
  label = None if chosen is None else class_index(chosen, sampler.class_names)
  wanted = {
    "num_clips": flag_values.num_clips,
    "num_frames": sampler.num_frames,
    "conditioning_frames": sampler.conditioning_frames,
  }
  if flag_values.input is None:
    clips = clip_sources.evaluation_clips(sampler.data, **wanted)
  else:
    if label is None and sampler.class_names:
      raise UserError(f"--class is missing: what --input shows is one of {', '.join(sampler.class_names)}")
    clips = clip_sources.video_clips(flag_values.input, sampler.data, **wanted)
  if not sampler.class_names:
    label = 0
  return clips if label is None else dataclasses.replace(clips, label=np.full_like(clips.label, label))
