"""`vidgen data`: builds data sets, shows what is in them, and checks that they are whole."""

import dataclasses
import functools
import sys
import time
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from vidgen_jax.commands import data_bench
from vidgen_jax.data import config as data_config
from vidgen_jax.data import records, sources, transforms, verification
from vidgen_jax.data.datasets import LAYOUTS
from vidgen_jax.data.datasets.shape_motion import ShapeMotionOptions, build_shape_motion
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.data.published import PublishedOptions, build_published
from vidgen_jax.errors import UserError
from vidgen_jax.ops import video as video_ops
from vidgen_jax.parallel import startup
from vidgen_jax.runs.sampling.generated_set import GeneratedOptions, build_generated

SUMMARY = """Builds data sets, shows what is in them and checks that they are whole.

  vidgen data build shape_motion --num_clips=8000
      Circles and squares that move up or left, generated from --seed.
  vidgen data build video_folder --source=FOLDER --name=NAME
      Any folder (or zip) <class>/<file> of mp4, avi, webm, gif or frame strips, or a folder of files without classes;
      both may lie below train/ and test/. For Weizmann's strips: --split_group=pair --encoding=png --fps=25
      (or --split_group=8, which divides the people: eight strips of each, numbered in a row)
  vidgen data build PUBLISHED --source=FOLDER --size=64
      As the owners distribute it: zip and tar files are read as they are, other archives unpacked; their lists say what
      is for training. Without --source <data_dir>/downloads/manual/PUBLISHED is read; where that is not there, the
      command says what to fetch. PUBLISHED, and for --split_rule, the first being the default:
      bair: original, validation (trajectories 256-2559), balanced (70 % of the training set, all others for testing)
      jester: owners (their validation list is for testing)
      kinetics400, kinetics600, kinetics700: owners
      kth: people (persons 1-15, 16, 17-25), handwaving (that action alone, persons 1-20 and 21-25); videos are cut
        where 00sequences.txt says
      moving_mnist: nine_tenths (for training), test (all of it, as the owners mean it)
      mug: takes, subjects (80 and 20 percent of them); with neutral faces takes_neutral, subjects_neutral
      ucf101: 1, 2, 3, 1_validation (5 % of the scenes of trainlist01 for validation)
      weizmann: people (moshe and shahar for testing), all (for training)
  vidgen data build generated --workdir=RUN|--export=FOLDER --name=NAME --clips_per_class=100
      Clips that a class-conditional model makes from noise, for `vidgen classify --synthetic=NAME` (S3).
  vidgen data inspect NAME
      Sizes, classes and frame rates, and a contact sheet.
  vidgen data verify NAME
      Reads it all again and compares: files with the sizes and checksums in manifest.json, counts of clips, lengths and
      labels with the index. Every frame is decoded, unless --nodecode is given.
  vidgen data bench NAME
      Clips per second by number of --workers, bytes, the share of each stage, and what a window of --frames (16) costs
      against all frames; with --step_ms=S, the workers that such a train step needs. --pytorch --videos=FOLDER compares
      with a PyTorch DataLoader that decodes those videos with PyAV.

Videos are decoded by a process for every core (--num_workers), or by an Apache Beam pipeline on a cluster that shares
the folders: --beam_options=runner=...; both give the same clips in the same order. A build that was interrupted
continues where it was when the same command is given again. manifest.json beside the records lists every source file,
why it was skipped or what is damaged in it; more than --max_skipped of them is an error.
"""

BUCKET_FLAGS = ("workdir",)

USAGE = (
  "vidgen data build shape_motion|video_folder|generated|PUBLISHED [flags], "
  "or vidgen data inspect|verify|bench NAME [flags]"
)

_BUILDERS = {
  "shape_motion": (ShapeMotionOptions, build_shape_motion),
  "video_folder": (VideoFolderOptions, build_video_folder),
  **{name: (PublishedOptions, functools.partial(build_published, layout)) for name, layout in LAYOUTS.items()},
  "generated": (GeneratedOptions, build_generated),
}
_INSPECT_FLAGS = ("data_dir", "split", "clips", "frames", "resolution", "output")
_VERIFY_FLAGS = ("data_dir", "decode")
_SHOWN_PROBLEMS = 20


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(VideoFolderOptions)}

_FLAGS = (
  ("string", "name", None, "build: name of the data set; the builder's name by default"),
  ("string", "data_dir", data_config.DEFAULT_DATA_DIR, "folder of all data sets"),
  ("integer", "seed", 0, "build: of the generated clips, or of the division into training and testing"),
  ("bool", "overwrite", False, "build: replace a data set of that name"),
  ("integer", "num_clips", 8000, "build shape_motion: clips in all; every fifth is for testing"),
  ("string", "source", None, "build from videos: folder or zip to read"),
  ("string", "split_rule", "", "build PUBLISHED: who is for training and who for testing; see above"),
  ("integer", "size", 0, "build from videos: pixels of the stored frames' smallest side; 0 keeps the size"),
  ("string", "encoding", _DEFAULTS["encoding"], "build from videos: jpeg or png (lossless)"),
  ("integer", "quality", _DEFAULTS["quality"], "build from videos: JPEG quality, 1..100"),
  ("float", "test_fraction", _DEFAULTS["test_fraction"], "build video_folder, generated: test part of every class"),
  (
    "string",
    "split_group",
    _DEFAULTS["split_group"],
    "build video_folder: file; pair: files 2 n and 2 n + 1 of a folder on one side; a number N: files k N up to "
    "k N + N - 1 of all folders on one side",
  ),
  ("integer", "min_frames", _DEFAULTS["min_frames"], "build from videos: a shorter video is skipped"),
  ("integer", "clip_frames", 0, "build from videos: cut videos into clips of that many frames; 0 does not cut"),
  ("float", "fps", 0.0, "build video_folder: frames per second to note for frame strips; 0 for unknown"),
  ("string", "workdir", None, "build generated: folder of a run"),
  ("string", "export", None, "build generated: folder of an export, in place of --workdir"),
  ("integer", "step", None, "build generated: of the run's checkpoint; the latest by default"),
  ("string", "weights", "ema", "build generated: of the run: averages (ema) or live weights (raw)"),
  ("integer", "clips_per_class", 100, "build generated: clips of each class"),
  ("float", "truncation", None, "build generated: cuts latents at +- this; negative for no cut"),
  ("integer", "stride", 1, "build from videos: stores every so many-th frame; the frame rate noted is divided"),
  (
    "float",
    "max_skipped",
    _DEFAULTS["max_skipped"],
    "build from videos: part of them that may be missing, damaged or too short; more is an error",
  ),
  ("integer", "num_workers", 0, "build from videos: processes that decode; 0 for one per core"),
  (
    "list",
    "beam_options",
    [],
    "build from videos: builds by an Apache Beam pipeline (extra beam): its options NAME=VALUE by comma, as "
    "runner=DirectRunner,direct_running_mode=multi_processing,direct_num_workers=8",
  ),
  ("string", "split", "train", "inspect, bench: split to read"),
  ("integer", "clips", 8, "inspect: rows of the contact sheet"),
  (
    "integer",
    "frames",
    8,
    "inspect: columns of the contact sheet, evenly spread over the clip; bench: of a window (16)",
  ),
  ("integer", "resolution", 64, "inspect, bench: pixels of a frame"),
  ("string", "output", None, "inspect: where the contact sheet goes; NAME_contact_sheet.png by default"),
  ("bool", "decode", True, "verify: decode every frame"),
)
"""(type, name, default, what it is) of every flag but those of `bench` alone."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of `vidgen data`."""
  for kind, name, default, text in _FLAGS:
    getattr(flags, f"DEFINE_{kind}")(name, default, text, flag_values=flag_values)
  data_bench.define_flags(flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs `vidgen data`.

  Args:
    flag_values: parsed flags, as defined by `define_flags`.
    arguments: ['build', builder], or one of 'inspect', 'verify' and 'bench' with a name.

  Raises:
    UserError: if the arguments, a flag, or the files are at fault.
  """
  match arguments:
    case ["build", builder]:
      build(builder, flag_values)
    case ["inspect", name]:
      inspect(name, flag_values)
    case ["verify", name]:
      verify(name, flag_values)
    case ["bench", name]:
      _check_flags(flag_values, allowed=data_bench.FLAGS, what="bench")
      data_bench.run(name, flag_values)
    case _:
      raise UserError(f"usage: {USAGE}; got {' '.join(arguments) or 'nothing'}")


def build(builder: str, flag_values: flags.FlagValues) -> None:
  """Builds a data set and says where it is.

  Args:
    builder: a name in `_BUILDERS`.
    flag_values: parsed flags.

  Raises:
    UserError: if the builder is unknown, a flag is not for it, or the build fails.
  """
  if builder not in _BUILDERS:
    raise UserError(f"there is no builder {builder!r}; choose one of {', '.join(_BUILDERS)}")
  options_type, build_dataset = _BUILDERS[builder]
  fields = [field.name for field in dataclasses.fields(options_type)]
  _check_flags(flag_values, allowed=fields, what=f"build {builder}")
  values = {field: flag_values[field].value for field in fields}
  values["name"] = values["name"] or builder
  if "source" in values and not values["source"]:
    values["source"] = _manual_downloads(builder, values["data_dir"])
  startup.enable_compilation_cache()
  build_dataset(options_type(**values))
  _describe(sources.load_info(values["name"], values["data_dir"]))


def _manual_downloads(builder: str, data_dir: str) -> str:
  """Where the archives of a published data set are looked for by default, as TFDS does: in the manual folder.

  Raises:
    UserError: if there is no such folder, or the builder has no archives.
  """
  if builder not in LAYOUTS:
    raise UserError(f"build {builder} needs --source=FOLDER")
  folder = Path(data_dir).expanduser() / "downloads" / "manual" / builder
  if not folder.is_dir():
    raise UserError(f"build {builder} needs --source=FOLDER, or the files in {folder}: {LAYOUTS[builder].obtain}")
  return str(folder)


def inspect(name: str, flag_values: flags.FlagValues) -> None:
  """Describes a data set and writes a contact sheet of it: rows are clips, columns are frames.

  Args:
    name: name of the data set.
    flag_values: parsed flags.

  Raises:
    UserError: if the data set or the split is missing, or the sheet cannot be written.
  """
  _check_flags(flag_values, allowed=_INSPECT_FLAGS, what="inspect")
  for flag in ("clips", "frames", "resolution"):
    if flag_values[flag].value < 1:
      raise UserError(f"--{flag} must be at least 1, got {flag_values[flag].value}")
  info = sources.load_info(name, flag_values["data_dir"].value)
  _describe(info)
  output = Path(flag_values["output"].value or f"{name}_contact_sheet.png")
  videos = sample_videos(
    info,
    flag_values["split"].value,
    num_clips=flag_values["clips"].value,
    num_frames=flag_values["frames"].value,
    resolution=flag_values["resolution"].value,
  )
  try:
    Image.fromarray(video_ops.contact_sheet(videos)).save(output)
  except (OSError, ValueError) as error:
    raise UserError(f"cannot write --output {output}: {error}") from error
  _write_line(f"contact sheet: {output}")


def verify(name: str, flag_values: flags.FlagValues) -> None:
  """Reads a data set again, compares it with its manifest and its index, and prints what is wrong, or one line.

  Args:
    name: name of the data set.
    flag_values: parsed flags.

  Raises:
    UserError: if the data set is missing or damaged.
  """
  _check_flags(flag_values, allowed=_VERIFY_FLAGS, what="verify")
  data_dir, decode, start = flag_values["data_dir"].value, flag_values["decode"].value, time.perf_counter()
  found = verification.verify_dataset(name, data_dir, decode=decode)
  for problem in found.problems[:_SHOWN_PROBLEMS]:
    _write_line(problem)
  if found.problems:
    raise UserError(
      f"data set {name!r} at {found.directory} is damaged; problems: {len(found.problems)}, the first: "
      f"{found.problems[0]}; build it again with: {sources.build_command(name, data_dir)} --overwrite"
    )
  _write_line(
    f"{name}: {found.clips} clips, {found.frames} frames{' (not decoded)' if not decode else ''}, {found.bytes} bytes: "
    f"as they were built; {time.perf_counter() - start:.1f} s"
  )


def sample_videos(
  info: sources.DatasetInfo, split: str, *, num_clips: int, num_frames: int, resolution: int
) -> np.ndarray:
  """The first clips of a split, each as a few frames that are evenly spread from its first to its last.

  Args:
    info: the data set.
    split: which split to read.
    num_clips: N; fewer where the split has fewer.
    num_frames: T; a shorter clip repeats frames.
    resolution: H = W in pixels.

  Returns:
    uint8[N, T, H, W, 3].

  Raises:
    UserError: if the data set has no such split.
  """
  source = sources.open_split(info, split)
  videos = []
  for index in range(min(num_clips, len(source))):
    frames = source[index]["frames"]
    places = np.linspace(0, len(frames) - 1, num_frames).round().astype(int)
    videos.append(transforms.decode_squares([frames[place] for place in places], resolution=resolution))
  return np.stack(videos)


def _check_flags(flag_values: flags.FlagValues, *, allowed: list[str] | tuple[str, ...], what: str) -> None:
  """A flag that would be ignored is an error."""
  fields = [field.name for options, _ in _BUILDERS.values() for field in dataclasses.fields(options)]
  for flag in sorted({*fields, *_INSPECT_FLAGS, *_VERIFY_FLAGS, *data_bench.OWN_FLAGS} - set(allowed)):
    if flag_values[flag].present:
      raise UserError(f"--{flag} does not apply to `vidgen data {what}`; leave it out")


def _describe(info: sources.DatasetInfo) -> None:
  _write_line(f"{info.name}: {info.directory}")
  for split, labels in info.labels.items():
    lengths = info.num_frames[split]
    counts = np.bincount(labels, minlength=len(info.class_names))
    classes = ", ".join(f"{name} {count}" for name, count in zip(info.class_names, counts, strict=True))
    _write_line(f"  {split}: {len(labels)} clips of {lengths.min()}..{lengths.max()} frames ({classes})")
  _write_line(f"  frames per second: {', '.join(f'{rate:g}' if rate else 'unknown' for rate in info.fps)}")
  skipped = [entry for entry in info.manifest["sources"] if entry["status"] == "skipped"]
  if skipped:
    _write_line(f"  skipped {len(skipped)} source files, see {info.directory / records.MANIFEST}; the first:")
    _write_line(f"    {skipped[0]['source']}: {skipped[0]['reason']}")
  damaged = [entry for entry in info.manifest["sources"] if entry.get("damage")]
  if damaged:
    _write_line(f"  {len(damaged)} source files are damaged but usable; the first:")
    _write_line(f"    {damaged[0]['source']}: {damaged[0]['damage']}")


def _write_line(text: str) -> None:
  sys.stdout.write(text + "\n")
