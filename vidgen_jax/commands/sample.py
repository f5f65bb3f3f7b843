"""`vidgen sample`: makes clips from conditioning frames with the generator of a run or of an export."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax.commands import conditioning_flags, distributed_flags
from vidgen_jax.commands.flag_parsing import integers
from vidgen_jax.errors import UserError
from vidgen_jax.files import written_whole_folder
from vidgen_jax.media.images import frame_labels, mark_anchors, mark_conditioning, save_gif, save_png
from vidgen_jax.media.videos import FORMATS, save_clips
from vidgen_jax.ops.video import contact_sheet
from vidgen_jax.parallel import startup
from vidgen_jax.runs import config as configs
from vidgen_jax.runs import workdir as workdirs
from vidgen_jax.runs.sampling import clips as clip_sources
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.anchors import parse_anchors
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.exported import load_config_json
from vidgen_jax.runs.sampling.motion import MovingSamples, write_agreement, write_motion
from vidgen_jax.runs.sampling.samplers import Sampler

SUMMARY = """Makes clips with a trained generator; writes a contact sheet, GIFs and samples.npz.

Needs --out, and either --workdir of a run or --export, a folder made by `vidgen export`. The frames that the generator
must be given are those of evaluation clips of the data set; or of --input: a video file, a frame strip, or a folder of
them, of which a model that fills in between two frames takes the first and the last; or the images of --conditioning_images, of any
size. Of all the middle square is taken. From noise, --num_clips of each class are made. A run needs its data set too,
for the standing statistics; an export does not.
--motion adds the motion fields of a run whose recurrent unit moves content (TrIVD-GAN-FP, figure 3): motion.npz,
motion.png, GIFs; and motion.json, their agreement with the true motion, where the clips show one object whose truth is
known.
A model that takes frames at any times (sr_cgan) is given those of --task or --conditioning_indices of evaluation clips, or the
images of --anchor.
Example: vidgen sample --workdir=runs/shapes --num_clips=4 --samples=3 --truncation=0.8 --out=samples
Example: vidgen sample --workdir=runs/shapes --motion --out=moving
Example: vidgen sample --workdir=runs/people --classes=bend,jack --num_clips=4 --out=people
Example: vidgen sample --workdir=runs/between --conditioning_images=first.png,last.png --samples=5 --formats=mp4,png --out=filled
Example: vidgen sample --workdir=runs/any --anchor=a.png@3 --anchor=b.png@-1 --samples=5 --out=inferred
Example: vidgen sample --workdir=runs/any --task=predict --num_clips=4 --samples=3 --out=predicted"""

BUCKET_FLAGS = ("workdir", "out")

SAMPLES_FILE = "samples.npz"
SHEET_FILE = "contact_sheet.png"
GIF_FILE = "samples.gif"
CLIPS_FOLDER = "clips"
"""Of the clips that are written one by one."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_string("workdir", None, "folder of a run", flag_values=flag_values)
  flags.DEFINE_string("export", None, "folder of an export, in place of --workdir", flag_values=flag_values)
  flags.DEFINE_integer("step", None, "of the run's checkpoint; the latest by default", flag_values=flag_values)
  flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "of the run: averages or live weights", flag_values=flag_values)
  flags.DEFINE_list(
    "conditioning_images", None, "images, one for each conditioning frame, in their order", flag_values=flag_values
  )
  flags.DEFINE_multi_string(
    "anchor", None, "an image and its time in the clip, FILE@TIME; once for each anchor", flag_values=flag_values
  )
  conditioning_flags.define_conditioning_flags(flag_values)
  flags.DEFINE_string("input", None, "video file, frame strip or folder of them", flag_values=flag_values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets, if not the run's", flag_values=flag_values)
  flags.DEFINE_integer(
    "num_clips", 8, "clips to give frames of; from noise, clips of each class", lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_integer("samples", 1, "clips to make for each of them", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer(
    "num_frames",
    None,
    "length of the clips, the conditioning frames included; may exceed the trained length if the model is recurrent",
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "truncation", None, "cuts latents at +- this; 0 for the typical one; negative for no cut", flag_values=flag_values
  )
  flags.DEFINE_list(
    "classes",
    None,
    "names or indices: each clip is made in every one of them; by default in its own, or from noise in all",
    flag_values=flag_values,
  )
  flags.DEFINE_integer("seed", 0, "of the latents", flag_values=flag_values)
  flags.DEFINE_list(
    "formats",
    [],
    f"also writes each clip by itself, as some of {', '.join(FORMATS)} (a strip of frames)",
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "fps", 8.0, "frames per second of GIF and MP4", lower_bound=0.1, upper_bound=50, flag_values=flag_values
  )
  flags.DEFINE_bool("motion", False, "also writes the motion fields of a run", flag_values=flag_values)
  flags.DEFINE_list(
    "motion_levels",
    None,
    "of which of the generator's levels the motion is combined, 0 the coarsest; by default the two coarsest",
    flag_values=flag_values,
  )
  flags.DEFINE_string("out", None, "folder to make", flag_values=flag_values)
  flags.DEFINE_bool("overwrite", False, "replaces samples that are in --out already", flag_values=flag_values)
  distributed_flags.define(flag_values)
  flags.mark_flag_as_required("out", flag_values=flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  if (flag_values.workdir is None) == (flag_values.export is None):
    raise UserError("give either --workdir of a run or --export, a folder made by `vidgen export`")
  if flag_values.conditioning_images is not None and flag_values.input is not None:
    raise UserError("--conditioning_images=IMAGE,... and --input=VIDEO exclude each other; give one of them")
  chosen = [name for name in ("anchor", *conditioning_flags.NAMES) if flag_values[name].value is not None]
  if len(chosen) > 1:
    raise UserError(f"--{chosen[0]} and --{chosen[1]} exclude each other; give one of them")
  if chosen and flag_values.workdir is None:
    raise UserError(f"--{chosen[0]} needs --workdir of a run: an export is given the frames that it was made for")
  if flag_values.anchor is not None and (flag_values.conditioning_images is not None or flag_values.input is not None):
    raise UserError("--anchor brings its own frames; leave --conditioning_images and --input out")
  if unknown := [name for name in flag_values.formats if name not in FORMATS]:
    raise UserError(f"--formats: {unknown[0]!r} is none of {', '.join(FORMATS)}")
  if flag_values.distributed and flag_values.workdir is None:
    raise UserError("--distributed needs --workdir of a run: an export makes its clips in one process")
  if flag_values.motion and flag_values.workdir is None:
    raise UserError("--motion needs --workdir of a run: an export makes clips and nothing else")
  if flag_values.motion_levels is not None and not flag_values.motion:
    raise UserError("--motion_levels belongs to --motion; give both or neither")
  startup.enable_compilation_cache()
  distributed_flags.join(flag_values)
  with _out_folder(flag_values) as folder:
    sampler = _sampler(flag_values)
    clips = _clips(flag_values, sampler)
    options = {"samples": flag_values.samples, "seed": flag_values.seed}
    if sampler.motion is None:
      samples = sample(sampler, clips, **options)
    else:
      samples = sample_motion(folder, sampler, clips, fps=flag_values.fps, **options)
    write_samples(
      folder,
      clips,
      samples,
      conditioning_indices=sampler.conditioning_indices,
      are_anchors=sampler.takes_any_frames,
      class_names=sampler.class_names,
      fps=flag_values.fps,
    )
    save_clips(folder / CLIPS_FOLDER, samples, formats=flag_values.formats, fps=flag_values.fps)
  logging.info("wrote %d samples of %d clips to %s", samples.shape[1], len(clips), flag_values.out)


@contextlib.contextmanager
def _out_folder(flag_values: flags.FlagValues) -> Iterator[Path]:
  """Where the samples go; all processes of a job have them, and only the lead's files stay."""
  if jax.process_index() == 0:
    with written_whole_folder(flag_values.out, overwrite=flag_values.overwrite, marker=SAMPLES_FILE) as folder:
      yield folder
  else:
    with tempfile.TemporaryDirectory() as folder:
      yield Path(folder)


def sample(sampler: Sampler, clips: Clips, *, samples: int, seed: int) -> np.ndarray:
  """Makes several clips from the conditioning frames of each clip.

  Args:
    sampler: the generator.
    clips: N of them.
    samples: l, clips made for each.
    seed: see `samplers.draw_sample`.

  Returns:
    Whole clips, uint8 [N, l, num_frames, H, W, C].
  """
  return np.stack([samplers.draw_sample(sampler, clips, sample=j, seed=seed) for j in range(samples)], axis=1)


def sample_motion(
  folder: Path, sampler: Sampler, clips: Clips, *, samples: int, seed: int, fps: float = 8.0
) -> np.ndarray:
  """As `sample`, and writes the clips' motion fields: see `write_motion` and `write_agreement`.

  Args:
    folder: it exists.
    sampler: the generator; its `motion` is not None.
    clips: see `sample`. Agreement needs their truth.
    samples: see `sample`.
    seed: see `sample`.
    fps: frames per second of the GIFs, in (0, 50].

  Returns:
    See `sample`.

  Raises:
    UserError: if the disk is full.
  """
  drawn = [samplers.draw_motion(sampler, clips, sample=j, seed=seed) for j in range(samples)]
  videos, flows = (np.stack(parts, axis=1) for parts in zip(*drawn, strict=True))
  moving = MovingSamples(samples=videos, flow=flows, conditioning_indices=sampler.conditioning_indices)
  write_motion(folder, moving, levels=sampler.motion.levels, fps=fps)
  if sampler.motion.object_tracking and clips.truth is not None:
    write_agreement(folder, moving, clips.truth, levels=sampler.motion.levels, seed=seed)
  return videos


def write_samples(
  folder: Path,
  clips: Clips,
  samples: np.ndarray,
  *,
  conditioning_indices: Sequence[int],
  are_anchors: bool = False,
  class_names: Sequence[str] = (),
  fps: float = 8.0,
) -> None:
  """Writes the files that show all clips together.

  - `samples.npz`: samples uint8 [N, l, T, H, W, C], whole clips; given uint8 [N, G, H, W, C]; conditioning_indices int32 [G],
    the 0-based indices of the conditioning frames in the clips; label int32 [N]; and truth uint8 [N, T, H, W, C], whole
    clips, where it is known.
  - `contact_sheet.png`: for each clip a row with the truth, where it is known, and one for each sample; beside each
    row the clip's class, where there are classes.
  - `clip_000.gif`, ...: truth and samples of a clip side by side; `samples.gif`: all clips.

  Args:
    folder: it exists.
    clips: N of them.
    samples: as from `sample`.
    conditioning_indices: G indices.
    are_anchors: whether they are marked as anchors, with a yellow border in place of a green one.
    class_names: by label.
    fps: frames per second of the GIFs, in (0, 50].

  Raises:
    UserError: if the disk is full.
  """
  arrays = {
    "samples": samples,
    "conditioning": clips.conditioning,
    "conditioning_indices": np.asarray(conditioning_indices, np.int32),
  }
  arrays |= {"label": clips.label} | ({} if clips.truth is None else {"truth": clips.truth})
  np.savez_compressed(folder / SAMPLES_FILE, **arrays)
  shown = samples if clips.truth is None else np.concatenate([clips.truth[:, None], samples], axis=1)
  videos = (mark_anchors if are_anchors else mark_conditioning)(shown, conditioning_indices)
  rows = videos.reshape(-1, *videos.shape[2:])
  names = [class_names[label] for label in clips.label for _ in range(videos.shape[1])] if class_names else None
  sheet = contact_sheet(rows, column_labels=frame_labels(conditioning_indices, rows.shape[1]), row_labels=names)
  save_png(folder / SHEET_FILE, sheet)
  for index, clip in enumerate(videos):
    save_gif(folder / f"clip_{index:03d}.gif", clip, fps=fps, columns=len(clip))
  clips_in_a_row = 1 if len(videos) < 4 else 2
  save_gif(folder / GIF_FILE, rows, fps=fps, columns=clips_in_a_row * videos.shape[1])


def class_index(text: str, class_names: tuple[str, ...]) -> int:
  """The label that a word of `--classes` means.

  Raises:
    UserError: if there is no such class, naming those that there are.
  """
  if not class_names:
    raise UserError(f"--classes={text}: the model was trained without classes")
  if text in class_names:
    return class_names.index(text)
  if text.isdecimal() and int(text) < len(class_names):
    return int(text)
  known = ", ".join(f"{index} = {name}" for index, name in enumerate(class_names))
  raise UserError(f"--classes={text} is not a class of the model; it has {known}")


def _sampler(flag_values: flags.FlagValues) -> Sampler:
  wanted = {"num_frames": flag_values.num_frames, "truncation": flag_values.truncation}
  if flag_values.workdir is not None:
    is_single = flag_values.conditioning_images is not None or flag_values.anchor is not None
    trained = samplers.load_run(
      flag_values.workdir,
      num_clips=1 if is_single else flag_values.num_clips,
      conditioning_indices=_conditioning_indices(flag_values),
      step=flag_values.step,
      weights=flag_values.weights,
      data_dir=flag_values.data_dir,
    )
    levels = None if flag_values.motion_levels is None else integers("motion_levels", flag_values.motion_levels)
    return samplers.workdir_sampler(trained, **wanted, with_motion=flag_values.motion, motion_levels=levels)
  for name, default in {"step": None, "weights": "ema"}.items():
    if flag_values[name].value != default:
      raise UserError(f"--{name} belongs to --workdir; an export holds the averages of one step")
  config = configs.from_dict(load_config_json(flag_values.export))
  return samplers.export_sampler(flag_values.export, samplers.with_data_dir(config, flag_values.data_dir), **wanted)


def _conditioning_indices(flag_values: flags.FlagValues) -> tuple[int, ...] | None:
  """The frames that --anchor, --task or --conditioning_indices name; None where none of them is given."""
  if flag_values.anchor is not None:
    return tuple(parse_anchors(flag_values.anchor))
  return conditioning_flags.conditioning_indices(flag_values, workdirs.load_config(flag_values.workdir))


def _clips(flag_values: flags.FlagValues, sampler: Sampler) -> Clips:
  words = flag_values.classes
  labels = None if words is None else [class_index(word, sampler.class_names) for word in words]
  shape = {"num_frames": sampler.num_frames, "conditioning_indices": sampler.conditioning_indices}
  for name in ("conditioning_images", "input", "anchor"):
    if flag_values[name].value is not None and labels is None and sampler.class_names:
      raise UserError(f"--classes is missing: what --{name} shows is one of {', '.join(sampler.class_names)}")
  if flag_values.anchor is not None:
    # The sampler's frames are the anchors' times, in ascending order.
    images = {time % sampler.num_frames: path for time, path in parse_anchors(flag_values.anchor).items()}
    clips = clip_sources.image_clip([images[time] for time in sampler.conditioning_indices], sampler.data, **shape)
  elif flag_values.conditioning_images is not None:
    clips = clip_sources.image_clip(flag_values.conditioning_images, sampler.data, **shape)
  elif flag_values.input is not None:
    clips = clip_sources.video_clips(flag_values.input, sampler.data, num_clips=flag_values.num_clips, **shape)
  elif sampler.conditioning_indices:
    clips = samplers.evaluation_clips(sampler, num_clips=flag_values.num_clips)
  else:
    clips = clip_sources.empty_clips(sampler.data, num_clips=flag_values.num_clips)
    labels = labels or list(range(len(sampler.class_names)))
  return clips.of_classes(labels) if labels else clips
