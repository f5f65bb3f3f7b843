"""`vidgen data`: builds data sets, shows their content, verifies them, and measures how fast they are read."""

import dataclasses
import inspect
import re
import sys
import time
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from vidgen_jax.commands import data_bench, data_description
from vidgen_jax.data import records, transforms, verification
from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.data.datasets import all_datasets
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.media.images import contact_sheet, save_png
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.runs.sampling import generated_set  # noqa: F401  It registers a data set.

SUMMARY = """Builds data sets, shows their content, verifies them, and measures how fast they are read.

  vidgen data build shape_motion --num_clips=8000
      Generates clips from --seed.
  vidgen data build video_folder --source=FOLDER --name=NAME
      Reads any folder (or zip) <class>/<file>, or a folder of files without classes; both may be below train/, test/
      and val/. A file is a video, a strip, or a folder of numbered frames. Of a single video, --split=time keeps the
      end for testing. Without --name the data set is called like the folder. For Weizmann's strips:
      --split_group=pair --encoding=png --source_fps=25 (or --split_group=8, which divides the people: eight strips of
      each, numbered consecutively). --fps=25 resamples videos in time.
  vidgen data build PUBLISHED --source=FOLDER --size=64
      Reads the files of the owners: zip and tar files as they are, other archives unpacked. Without --source it reads
      <data_dir>/downloads/manual/PUBLISHED; if that is missing, the command says what to fetch. Kinetics is resampled
      to 25 frames per second (--fps) and stored as JPEG, all others keep their frames and are stored as PNG.
  vidgen data build generated --workdir=RUN|--export=FOLDER --name=NAME --clips_per_class=100
      Generates clips with a class-conditional model, for `vidgen classify --synthetic=NAME` (S3).
  vidgen data list
      Prints name, clips, size, frame rates, classes and folder of every data set.
  vidgen data inspect NAME
      Prints sizes, classes, frame rates, and how many sources were turned, cropped, damaged, ...; and writes a contact
      sheet to --out, by default NAME_contact_sheet.png in the current directory.
  vidgen data verify NAME
      Compares sizes and checksums of the files with manifest.json, and numbers of clips, lengths and labels with the
      index; decodes every frame unless --nodecode is given.
  vidgen data bench NAME
      Measures clips per second by number of --workers, the time of each stage, and the time of a window of --frames
      (16) compared with the whole clip; with --step_ms=S, the workers that such a train step needs.

One process per core decodes videos (--num_workers), or an Apache Beam pipeline on a cluster that shares the folders
(--beam_options=runner=...); the clips and their order are the same. The same command resumes an interrupted build.
manifest.json lists all source files, skipped and damaged ones with the reason.
"""


SUMMARY += "\nData sets, each with its values of --split_rule; the first value is the default:\n"
for _name, _dataset in all_datasets().items():
  SUMMARY += f"  {_name}: {_dataset.title}\n"
  SUMMARY += "".join(f"      {rule}: {description}\n" for rule, (description, _) in _dataset.split_rules.items())

BUCKET_FLAGS = ("workdir",)

_INSPECT_FLAGS = ("data_dir", "split", "clips", "frames", "resolution", "out")
_BENCH_FLAGS = ("data_dir", "split", "frames", "resolution", "out")
_VERIFY_FLAGS = ("data_dir", "decode")
# absl's kind of flag by the type of an option, which may also be None.
_KINDS: dict[Any, str] = {str: "string", int: "integer", float: "float", bool: "bool", Sequence[str]: "list"}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of `vidgen data`; those of `build` are the fields of the data sets' options."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_string("data_dir", DEFAULT_DATA_DIR, "folder of all data sets", **values)
  text = f"inspect, bench: split to read; build video_folder: {_attribute_docs(VideoFolderOptions)['split']}"
  flags.DEFINE_string("split", "train", text, **values)
  for name, fields in _option_fields().items():
    if name not in flag_values:
      # Defaults that differ between data sets are in the help.
      default, *others = {field.default for field in fields}
      default = None if others or default is dataclasses.MISSING else default
      kind = _KINDS.get(fields[0].type) or _KINDS[typing.get_args(fields[0].type)[0]]
      getattr(flags, f"DEFINE_{kind}")(name, default, _option_help(name), **values)
  flags.DEFINE_integer("clips", 8, "inspect: rows of the contact sheet", lower_bound=1, **values)
  text = "inspect: columns of the contact sheet; bench: frames of a window (16)"
  flags.DEFINE_integer("frames", 8, text, lower_bound=1, **values)
  flags.DEFINE_integer("resolution", 64, "inspect, bench: size of a frame in pixels", lower_bound=1, **values)
  text = "inspect: .png file of the contact sheet, default: NAME_contact_sheet.png in the current directory; "
  flags.DEFINE_string("out", None, text + "bench: JSON-lines file for the figures", **values)
  flags.DEFINE_bool("decode", True, "verify: decode every frame", **values)
  data_bench.define_flags(flag_values)


def _option_fields() -> dict[str, list[dataclasses.Field]]:
  """Fields of all data sets that have an option, by its name."""
  found: dict[str, list[dataclasses.Field]] = {}
  for dataset in all_datasets().values():
    for field in dataclasses.fields(dataset.options_type):
      found.setdefault(field.name, []).append(field)
  return found


def _option_help(option: str) -> str:
  """Help of a flag from the docstrings of all options types that have the field."""
  names_by_text: dict[str, dict[str, None]] = {}
  for name, dataset in all_datasets().items():
    if text := _attribute_docs(dataset.options_type).get(option):
      names_by_text.setdefault(text, {})["PUBLISHED" if dataset.list_files else name] = None
  return "; ".join(f"build {', '.join(names)}: {text}" for text, names in names_by_text.items())


def _attribute_docs(options_type: type) -> dict[str, str]:
  """Descriptions in the 'Attributes' sections of a class and its bases."""
  found = {}
  for base in reversed(options_type.__mro__):
    section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
    for name, text in re.findall(r"^  (\w+): (.*(?:\n    .*)*)", section, re.MULTILINE):
      found[name] = " ".join(text.split()).rstrip(".")
  return found


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs an action: ['build', data set], ['list'], or ['inspect' | 'verify' | 'bench', built data set]."""
  match arguments:
    case ["build", name]:
      _build(name, flag_values)
    case ["list"]:
      _check_flags(flag_values, allowed=("data_dir",), what="list")
      data_description.list_datasets(flag_values.data_dir)
    case ["inspect", name]:
      _inspect(name, flag_values)
    case ["verify", name]:
      _verify(name, flag_values)
    case ["bench", name]:
      _check_flags(flag_values, allowed=(*data_bench.FLAGS, *_BENCH_FLAGS), what="bench")
      data_bench.run(name, flag_values)
    case _:
      usage = "vidgen data build DATASET [flags], vidgen data list, or vidgen data inspect|verify|bench NAME [flags]"
      raise UserError(f"usage: {usage}; got {' '.join(arguments) or 'nothing'}")


def _build(name: str, flag_values: flags.FlagValues) -> None:
  datasets = all_datasets()
  if name not in datasets:
    close = records.did_you_mean(name, datasets)
    raise UserError(f"there is no data set {name!r} to build{close}; choose one of {', '.join(datasets)}")
  dataset, data_dir = datasets[name], flag_values.data_dir
  fields = {field.name: field.default for field in dataclasses.fields(dataset.options_type)}
  _check_flags(flag_values, allowed=fields, what=f"build {name}")
  # The defaults of an option differ between data sets.
  values: dict[str, Any] = {
    field: flag_values[field].value
    for field, default in fields.items()
    if flag_values[field].present or default is dataclasses.MISSING
  }
  if not values["name"] and dataset.list_files is None and values.get("source"):
    values["name"] = re.sub(r"[^\w-]+", "_", Path(values["source"]).expanduser().resolve().stem).strip("_")
  values["name"] = values["name"] or name
  if "source" in values and not values["source"]:
    # TFDS's folder for manual downloads.
    folder = Path(data_dir).expanduser() / "downloads" / "manual" / name
    if dataset.list_files is None:
      raise UserError(f"build {name} needs --source=FOLDER")
    if not folder.is_dir():
      raise UserError(f"build {name} needs --source=FOLDER, or the files in {folder}: {dataset.obtain}")
    values["source"] = str(folder)
  enable_compilation_cache()
  dataset.build(dataset.options_type(**values))
  data_description.describe(records.load_info(values["name"], data_dir))


def _inspect(name: str, flag_values: flags.FlagValues) -> None:
  _check_flags(flag_values, allowed=_INSPECT_FLAGS, what="inspect")
  out = flag_values.out or f"{name}_contact_sheet.png"
  check_writable(out, "--out", suffix=".png")
  info = records.load_info(name, flag_values.data_dir)
  data_description.describe(info)
  sizes = {"num_clips": flag_values.clips, "num_frames": flag_values.frames, "resolution": flag_values.resolution}
  videos = sample_videos(info, flag_values.split, **sizes)
  save_png(out, contact_sheet(videos))
  sys.stdout.write(f"contact sheet: {Path(out).absolute()}\n")


def _verify(name: str, flag_values: flags.FlagValues) -> None:
  _check_flags(flag_values, allowed=_VERIFY_FLAGS, what="verify")
  data_dir, decode, start = flag_values.data_dir, flag_values.decode, time.perf_counter()
  found = verification.verify_dataset(name, data_dir, decode=decode)
  if found.problems:
    sys.stdout.writelines(f"{problem}\n" for problem in found.problems[:20])
    raise UserError(
      f"data set {name!r} at {found.directory} is damaged; problems: {len(found.problems)}, the first: "
      f"{found.problems[0]}; build it again with: {records.build_command(name, data_dir)} --overwrite"
    )
  sys.stdout.write(
    f"{name}: {found.clips} clips, {found.frames} frames{'' if decode else ' (not decoded)'}, {found.bytes} bytes: "
    f"no problems; {time.perf_counter() - start:.1f} s\n"
  )


def sample_videos(
  info: records.DatasetInfo, split: str, *, num_clips: int, num_frames: int, resolution: int
) -> np.ndarray:
  """Evenly spaced frames, from the first to the last, of the first `num_clips` of a split: uint8[N, T, H, W, 3].

  Clips of fewer frames repeat some of them; N is smaller if the split is.
  """
  source = records.open_split(info, split)
  videos = []
  for index in range(min(num_clips, len(source))):
    frames = source[index]["frames"]
    sampled = np.linspace(0, len(frames) - 1, num_frames).round().astype(int).tolist()
    videos.append(transforms.decode_squares([frames[i] for i in sampled], resolution=resolution))
  return np.stack(videos)


def _check_flags(flag_values: flags.FlagValues, *, allowed: Collection[str], what: str) -> None:
  """Rejects flags that would be ignored."""
  for flag in sorted(set(flag_values) - {*allowed, "verbose"}):
    if flag_values[flag].present:
      raise UserError(f"--{flag} does not apply to `vidgen data {what}`; leave it out")
