"""Layout of the files of a published data set, and functions that the layouts share."""

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from vidgen_jax.data.listing import MISSING, Source, SourceFile, joint_stamp
from vidgen_jax.errors import UserError

_IMAGES = (".jpg", ".jpeg", ".png")
_NUMBER = re.compile(r"(\d+)\.\w+$")


class ListError(Exception):
  """A list that the owners distribute is missing or malformed; the message completes 'the source ...'."""


class SplitRule(NamedTuple):
  """A division of a published data set."""

  description: str
  """Videos of each split, in words."""
  num_videos: Mapping[str, int]
  """Number of videos of the complete data set by split, as far as known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """Files of a published data set.

  Attributes:
    name: name of the data set.
    list_files: function (source, rule) that lists the videos of a split rule, including missing ones.
    split_rules: rules by name; the first is the default.
    obtain: download instructions with disk space and build time, as a sentence that begins with 'fetch'.
    fps: frames per second if the files, being images, do not contain it; 0 for unknown.
  """

  name: str
  list_files: Callable[[Source, str], list[SourceFile]]
  split_rules: Mapping[str, SplitRule]
  obtain: str
  fps: float = 0.0

  def files(self, source: Source, rule: str) -> list[SourceFile]:
    """Lists the videos of a split rule, in a fixed order.

    Raises:
      UserError: if the rule is unknown, or the source lacks the data set or one of its lists.
    """
    if rule not in self.split_rules:
      raise UserError(f"--split_rule={rule} must be one of {', '.join(self.split_rules)} for {self.name}")
    try:
      files = self.list_files(source, rule)
    except ListError as error:
      raise UserError(f"--source {source.path} {error}: {self.obtain}") from error
    if all(file.stamp == MISSING for file in files):
      raise UserError(f"--source {source.path} does not hold {self.name}: {self.obtain}")
    return files


def by_file_name(paths: Iterable[str], suffixes: tuple[str, ...]) -> dict[str, str]:
  """Path by file name of all files with one of the suffixes; of equal names, the last."""
  return {path.rpartition("/")[2]: path for path in paths if path.lower().endswith(suffixes)}


def read_list(source: Source, lists: Mapping[str, str], name: str) -> str:
  """Reads the text of a list.

  Args:
    source: source of the list.
    lists: path by file name.
    name: file name of the list.

  Raises:
    ListError: if there is no such list.
  """
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
  """Describes a listed video, which may be missing.

  Args:
    path: path of the video or of its folder of images within the source; None if it is missing.
    name: name in the owners' lists.
    stamps: stamps of all files of the source.
    class_name: class of the video.
    split: split of the video.
    parts: parts to use, see `SourceFile`.
    images: images of all folders, if the video is a folder of images.
  """
  frames = () if images is None or path is None else images[path]
  stamp = MISSING if path is None else joint_stamp(stamps[image] for image in frames) if frames else stamps[path]
  return SourceFile(
    path=name if path is None else path,
    name=name,
    class_name=class_name,
    split=split,
    stamp=stamp,
    parts=tuple(parts),
    images=frames,
  )
