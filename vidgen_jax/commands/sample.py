"""`vidgen sample`: generates clips from conditioning frames with the generator of a run or of an export."""

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
from absl import flags, logging

from vidgen_jax.commands import conditioning_flags, dataset_flags, distributed_flags
from vidgen_jax.commands.flag_parsing import check_needs, integers
from vidgen_jax.core.config import MAX_SEED
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write_dir
from vidgen_jax.media.videos import FORMATS, save_clips
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.runs.sampling.clips import Clips, empty_clips, evaluation_clips, image_clip, video_clips
from vidgen_jax.runs.sampling.motion import check_levels
from vidgen_jax.runs.sampling.samplers import RunSampler, Sampler, export_sampler, load_run, workdir_sampler
from vidgen_jax.runs.sampling.samples import SAMPLES_FILE, generate, generate_with_motion, write_samples
from vidgen_jax.runs.workdir import Trained, load_config

SUMMARY = """Generates clips with a trained generator; writes a contact sheet, GIFs and samples.npz.

Requires --out, and either --workdir, a run, or --export, a folder written by `vidgen export`. A run also needs its data
set, for the standing statistics.
The conditioning frames come from
- evaluation clips of the data set (the default), or with --data of another data set;
- --input: a video file, a frame strip or a folder of them. A model that fills in between two frames uses the first and
  the last frame of each video;
- --conditioning_images: one image for each conditioning frame.
Images and videos of any size are centre-cropped to squares. A model without conditioning frames generates --num_clips
clips of each class from noise.
A model that accepts any conditioning frames (sr_cgan) uses those of --task or --conditioning_indices in the evaluation
clips, or the images of --anchor.
--motion adds the motion fields of a run whose recurrent unit moves content (TrIVD-GAN-FP, figure 3): motion.npz,
motion.png and GIFs; if the clips show one object and the truth is known, also motion.json, their agreement with the
true motion.
Example: vidgen sample --workdir=runs/shapes --num_clips=4 --samples=3 --truncation=0.8 --out=samples
Example: vidgen sample --workdir=runs/shapes --motion --out=moving
Example: vidgen sample --workdir=runs/people --classes=bend,jack --num_clips=4 --out=people
Example: vidgen sample --workdir=runs/between --conditioning_images=first.png,last.png --samples=5 --formats=mp4,png
  --out=filled
Example: vidgen sample --workdir=runs/any --anchor=a.png@3 --anchor=b.png@-1 --samples=5 --out=inferred
Example: vidgen sample --workdir=runs/any --task=predict --num_clips=4 --samples=3 --out=predicted"""

BUCKET_FLAGS = ("workdir", "out")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the command's flags."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_string("workdir", None, "folder of a run", **values)
  flags.DEFINE_string("export", None, "folder of an export, instead of --workdir", **values)
  flags.DEFINE_integer("step", None, "step of the run's checkpoint; default: the latest", **values)
  flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "weights of the run: averaged or live", **values)
  flags.DEFINE_list("conditioning_images", None, "one image for each conditioning frame, in order", **values)
  text = "sr_cgan: a conditioning frame as FILE@TIME, counted from 0, -1 for the last; repeatable"
  flags.DEFINE_multi_string("anchor", None, text, **values)
  conditioning_flags.define_conditioning_flags(flag_values)
  flags.DEFINE_string("input", None, "video file, frame strip or folder of them", **values)
  dataset_flags.define_dataset_flags(flag_values)
  text = "number of conditioning clips; from noise, of clips per class"
  flags.DEFINE_integer("num_clips", 8, text, lower_bound=1, **values)
  flags.DEFINE_integer("samples", 1, "number of samples for each of them", lower_bound=1, **values)
  text = "length of the clips, conditioning frames included; recurrent models can exceed their training length"
  flags.DEFINE_integer("num_frames", None, text, lower_bound=1, **values)
  text = "truncates latents at +- this; 0 for the typical one, negative for no truncation"
  flags.DEFINE_float("truncation", None, text, **values)
  text = "mvt: means of the latent's parts z_A, z_B and z_C instead of 0; the authors' sampling code uses 4,2,0"
  flags.DEFINE_list("sampling_means", [], text, **values)
  text = "class names or indices: each clip is generated in all of them; default: its own class, from noise all"
  flags.DEFINE_list("classes", None, text, **values)
  flags.DEFINE_integer("seed", 0, "seed of the latents", lower_bound=0, upper_bound=MAX_SEED, **values)
  text = f"also writes each clip as a separate file: {', '.join(FORMATS)} (a strip of frames)"
  flags.DEFINE_list("formats", [], text, **values)
  flags.DEFINE_float("fps", 8.0, "frames per second of GIF and MP4", lower_bound=0.1, upper_bound=50, **values)
  flags.DEFINE_bool("motion", False, "also writes the motion fields of a run", **values)
  text = "levels whose motion is combined, 0 the coarsest; default: the two finest"
  flags.DEFINE_list("motion_levels", None, text, **values)
  flags.DEFINE_string("out", None, "folder to create", **values)
  flags.DEFINE_bool("overwrite", False, "replaces existing samples in --out", **values)
  distributed_flags.define(flag_values)
  flags.mark_flag_as_required("out", flag_values=flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  _check(flag_values)
  enable_compilation_cache()
  distributed_flags.join(flag_values)
  sampling: dict[str, Any] = {"samples": flag_values.samples, "seed": flag_values.seed}
  lengths = {"num_frames": flag_values.num_frames, "truncation": flag_values.truncation}
  with _out_folder(flag_values) as folder:
    if flag_values.export is not None:
      sampler = export_sampler(flag_values.export, **dataset_flags.dataset_options(flag_values), **lengths)
    else:
      sampler = workdir_sampler(_load_run(flag_values), **lengths)
    clips = _clips(flag_values, sampler)
    _check_memory(sampler, len(clips), flag_values.samples)
    if isinstance(sampler, RunSampler) and flag_values.motion:
      words = flag_values.motion_levels
      levels = check_levels(sampler, None if words is None else integers("motion_levels", words))
      samples = generate_with_motion(folder, sampler, clips, levels=levels, fps=flag_values.fps, **sampling)
    else:
      samples = generate(sampler, clips, **sampling)
    write_samples(folder, sampler, clips, samples, fps=flag_values.fps)
    save_clips(folder / "clips", samples, formats=flag_values.formats, fps=flag_values.fps)
  logging.info("wrote %d samples of %d clips to %s", samples.shape[1], len(clips), flag_values.out)


def _check(flag_values: flags.FlagValues) -> None:
  def exclusive(*names: str) -> None:
    if len(found := [name for name in names if flag_values[name].value is not None]) > 1:
      raise UserError(f"--{found[0]} and --{found[1]} exclude each other; set only one of them")

  if (flag_values.workdir is None) == (flag_values.export is None):
    raise UserError("give either --workdir, a run, or --export, a folder written by `vidgen export`")
  exclusive("conditioning_images", "input", "anchor")
  exclusive("anchor", *conditioning_flags.NAMES)
  for name in ("conditioning_images", "input", "anchor"):
    exclusive(name, "data")
    exclusive(name, "split")
  if unknown := [name for name in flag_values.formats if name not in FORMATS]:
    raise UserError(f"--formats: {unknown[0]!r} must be one of {', '.join(FORMATS)}")
  for name in ("conditioning_images", "anchor"):
    if flag_values[name].value is not None and flag_values["num_clips"].present:
      raise UserError(f"--{name} makes a single clip; leave --num_clips out, and set --samples for several of it")
  check_needs(flag_values, {"motion_levels": "motion"})
  if flag_values.workdir is None:
    reasons = dict.fromkeys(("anchor", *conditioning_flags.NAMES), "the conditioning frames of an export are fixed")
    reasons["sampling_means"] = "the means of an export are fixed"
    reasons["standing_statistics_data"] = "the batch statistics of an export are fixed"
    reasons |= {"distributed": "an export runs in one process", "motion": "an export contains no motion fields"}
    for name, reason in reasons.items():
      if flag_values[name].value not in (None, False, []):
        raise UserError(f"--{name} needs --workdir: {reason}")
    if flag_values.step is not None or flag_values.weights != "ema":
      raise UserError("--step and --weights need --workdir; an export has the averaged weights of one step")


def _check_memory(sampler: Sampler, num_clips: int, samples: int) -> None:
  """Raises a UserError if all samples, which are kept in memory, cannot fit in that of this machine."""
  values = sampler.num_frames * sampler.data.resolution**2 * sampler.data.channels
  # uint8 samples and their marked copy in the images; one batch as float32.
  needed = (2 * num_clips * samples + 4 * min(num_clips, sampler.batch_size)) * values
  available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  if needed > available:
    raise UserError(
      f"{num_clips} clips x {samples} samples of {sampler.num_frames} frames need {needed / 2**30:,.0f} GiB of memory, "
      f"this machine has {available / 2**30:,.0f} GiB; lower --num_frames, --num_clips or --samples"
    )


@contextlib.contextmanager
def _out_folder(flag_values: flags.FlagValues) -> Generator[Path]:
  """The folder of the results. All processes of a job compute them, but only those of process 0 are kept."""
  if jax.process_index() == 0:
    with atomic_write_dir(flag_values.out, overwrite=flag_values.overwrite, marker=SAMPLES_FILE) as folder:
      yield folder
  else:
    with tempfile.TemporaryDirectory() as folder:
      yield Path(folder)


def class_index(text: str, class_names: tuple[str, ...]) -> int:
  """The label of a class name or index; UserError if there is no such class."""
  if not class_names:
    raise UserError(f"--classes={text}: the model was trained without classes")
  if text in class_names:
    return class_names.index(text)
  if text.isdecimal() and int(text) < len(class_names):
    return int(text)
  known = ", ".join(f"{index} = {name}" for index, name in enumerate(class_names))
  raise UserError(f"--classes={text} is not a class of the model; it has {known}")


def _load_run(flag_values: flags.FlagValues) -> Trained:
  if flag_values.anchor is not None:
    indices = tuple(conditioning_flags.parse_anchors(flag_values.anchor))
  else:
    indices = conditioning_flags.conditioning_indices(flag_values, load_config(flag_values.workdir))
  is_single = flag_values.conditioning_images is not None or flag_values.anchor is not None
  return load_run(
    flag_values.workdir,
    num_clips=1 if is_single else flag_values.num_clips,
    conditioning_indices=indices,
    step=flag_values.step,
    weights=flag_values.weights,
    sampling_means=flag_values.sampling_means,
    **dataset_flags.dataset_options(flag_values),
  )


def _clips(flag_values: flags.FlagValues, sampler: Sampler) -> Clips:
  words = flag_values.classes
  labels = None if words is None else [class_index(word, sampler.class_names) for word in words]
  for name in ("conditioning_images", "input", "anchor"):
    if flag_values[name].value is not None and labels is None and sampler.class_names:
      raise UserError(f"--{name} needs --classes, the class to generate: one of {', '.join(sampler.class_names)}")
  paths = flag_values.conditioning_images
  if flag_values.anchor is not None:
    # The sampler has the anchors' times in ascending order.
    anchors = conditioning_flags.parse_anchors(flag_values.anchor)
    images = {time % sampler.num_frames: path for time, path in anchors.items()}
    paths = [images[time] for time in sampler.conditioning_indices]
  if paths is not None:
    clips = image_clip(paths, sampler)
  elif not sampler.conditioning_indices:
    for name in ("input", "data", "split"):
      if flag_values[name].value is not None:
        raise UserError(f"--{name}: the model generates from noise; leave the flag out")
    clips = empty_clips(sampler.data, num_clips=flag_values.num_clips)
    labels = labels or list(range(len(sampler.class_names)))
  elif flag_values.input is not None:
    clips = video_clips(flag_values.input, sampler, num_clips=flag_values.num_clips)
  else:
    clips = evaluation_clips(sampler, num_clips=flag_values.num_clips)
  return clips.of_classes(labels) if labels else clips
