"""Data sets that their owners distribute as archives: registration, and functions for listing their files."""

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidgen_jax.data.datasets import Dataset, ListError, SplitRule, register
from vidgen_jax.data.datasets.video_folder import VideoBuildOptions, VideoFolderOptions, build_video_folder
from vidgen_jax.data.listing import MISSING, Source, SourceFile

_ListFiles = Callable[[Source, str], list[SourceFile]]

_IMAGES = (".jpg", ".jpeg", ".png")
_NUMBER = re.compile(r"(\d+)\.\w+$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedOptions(VideoBuildOptions):
  """Options of a published data set.

  Attributes:
    encoding: encoding of the stored frames, 'jpeg' or 'png', which is lossless and the default except for Kinetics.
    split_rule: one of the split rules of the data set; '' for the first.
  """

  encoding: str = "png"
  split_rule: str = ""


def published(
  *, name: str, title: str, split_rules: Mapping[str, SplitRule], obtain: str, **defaults: Any
) -> Callable[[_ListFiles], _ListFiles]:
  """Registers a published data set by its listing function; arguments as for `Dataset`.

  `defaults` replace those of `PublishedOptions`, such as `fps` and, of images, which do not contain it, `source_fps`.
  """
  fields: list[Any] = [(field, type(value), value) for field, value in defaults.items()]
  options_type = dataclasses.make_dataclass(
    f"Options_{name}", fields, bases=(PublishedOptions,), namespace={"__doc__": ""}, frozen=True, kw_only=True
  )

  def add(list_files: _ListFiles) -> _ListFiles:
    def build(options: PublishedOptions) -> Path:
      values = dataclasses.asdict(options)
      rule = values.pop("split_rule") or next(iter(split_rules))
      return build_video_folder(VideoFolderOptions(**values), dataset=dataset, split_rule=rule)

    dataset = Dataset(
      name=name,
      title=title,
      options_type=options_type,
      build=build,
      list_files=list_files,
      split_rules=split_rules,
      obtain=obtain,
    )
    register(dataset)
    return list_files

  return add


def by_file_name(paths: Iterable[str], suffixes: tuple[str, ...]) -> dict[str, str]:
  """Path by file name of all files with one of the suffixes; of equal names, the last."""
  return {path.rpartition("/")[2]: path for path in paths if path.lower().endswith(suffixes)}


def read_list(source: Source, lists: Mapping[str, str], name: str) -> str:
  """Reads the list of that file name from the paths by file name; raises `ListError` if there is none."""
  if name not in lists:
    raise ListError(f"has no {name}")
  with source.open(lists[name]) as file:
    return file.read().decode("utf-8-sig", errors="replace")


def images_by_folder(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
  """Images of every folder with images, ordered by the numbers at the end of their names."""
  folders = defaultdict(list)
  for path in paths:
    folder, _, name = path.rpartition("/")
    if name.lower().endswith(_IMAGES):
      folders[folder].append(path)
  return {folder: tuple(sorted(images, key=_number)) for folder, images in folders.items()}


def _number(path: str) -> tuple[int, str]:
  match = _NUMBER.search(path)
  return int(match[1]) if match else -1, path


def first_by_hash(names: Iterable[str], count: int) -> set[str]:
  """The `count` names with the lowest SHA-256: a random choice that depends on the names only."""
  return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


def found(
  path: str | None,
  name: str,
  stamps: Mapping[str, str],
  *,
  class_name: str,
  split: str,
  parts: Sequence[tuple[int, int]] = (),
  images: Mapping[str, tuple[str, ...]] | None = None,
) -> SourceFile:
  """Describes a listed video, see `SourceFile`; `path` is None if it is missing.

  `stamps` are those of all files of the source, and `images` those of all folders if the video is a folder of images.
  """
  if path is None:
    return SourceFile(path=name, name=name, class_name=class_name, split=split, stamp=MISSING)
  frames = () if images is None else images[path]
  stamps_of_frames = "\n".join(stamps[frame] for frame in frames)
  stamp = hashlib.sha256(stamps_of_frames.encode()).hexdigest() if frames else stamps[path]
  return SourceFile(
    path=path, name=name, class_name=class_name, split=split, stamp=stamp, parts=tuple(parts), images=frames
  )
