"""How the files of a published data set are to be read, and what its layouts share."""

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from vidgen_jax.data.listing import MISSING, Source, SourceFile, joint_stamp
from vidgen_jax.errors import UserError

_IMAGES = (".jpg", ".jpeg", ".png")
_NUMBER = re.compile(r"(\d+)\.\w+$")


class ListError(Exception):
  """A list that the owners distribute is not there, or is not as they write it; the message says what is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """How the files of a published data set are to be read.

  Attributes:
    name: of the data set, and of its builder.
    list_files: (source, rule) -> the videos that the rule uses, those that the source lacks marked as such.
    num_videos: by rule, the first being the default, and by split as far as known: how many the complete set has.
    obtain: what to fetch and where it is to be had, how to lay it out, the space that it takes and how long a build
      runs, as a sentence that begins with 'fetch'.
    fps: frames per second where the files, being images, do not say it; 0 for unknown.
  """

  name: str
  list_files: Callable[[Source, str], list[SourceFile]]
  num_videos: Mapping[str, Mapping[str, int]]
  obtain: str
  fps: float = 0.0

  def files(self, source: Source, rule: str) -> list[SourceFile]:
    """The videos of a split rule, in a fixed order.

    Raises:
      UserError: if there is no such rule, or the source does not hold the data set or one of its lists.
    """
    if rule not in self.num_videos:
      raise UserError(f"--split_rule={rule} is none of {', '.join(self.num_videos)}, which {self.name} has")
    try:
      files = self.list_files(source, rule)
    except ListError as error:
      raise UserError(f"--source {source.path} {error}: {self.obtain}") from error
    if all(file.stamp == MISSING for file in files):
      raise UserError(f"--source {source.path} does not hold {self.name}: {self.obtain}")
    return files


def split_hash(split_of: Mapping[str, str]) -> str:
  """SHA-256 of who is on which side: of the lines 'split name', sorted.

  Args:
    split_of: split by name.
  """
  lines = sorted(f"{split} {name}\n" for name, split in split_of.items())
  return hashlib.sha256("".join(lines).encode()).hexdigest()


def by_file_name(paths: Iterable[str], suffixes: tuple[str, ...]) -> dict[str, str]:
  """The path of every file of some kinds by its name without folders; of two of one name, the last."""
  return {path.rpartition("/")[2]: path for path in paths if path.lower().endswith(suffixes)}


def read_list(source: Source, lists: Mapping[str, str], name: str) -> str:
  """The text of a list.

  Args:
    source: holds it.
    lists: path by file name.
    name: of its file.

  Raises:
    ListError: if there is none of that name.
  """
  if name not in lists:
    raise ListError(f"has no {name}")
  with source.open(lists[name]) as file:
    return file.read().decode("utf-8-sig", errors="replace")


def images_by_folder(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
  """The images of every folder that holds some, in the order of the numbers that end their names."""
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
  """Some of the names, chosen by themselves alone: those whose SHA-256 is lowest."""
  return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


def found(
  path: str | None,
  name: str,
  stamps: Mapping[str, str],
  *,
  class_name: str,
  split: str,
  parts: Sequence[tuple[int, int]] = (),
) -> SourceFile:
  """A listed video: where it lies, or that it is missing.

  Args:
    path: within the source; None if it is missing.
    name: by which the owners' lists know it.
    stamps: of all files of the source.
    class_name: its class.
    split: its split.
    parts: see `SourceFile`.
  """
  stamp = MISSING if path is None else stamps[path]
  return SourceFile(path=path or name, name=name, class_name=class_name, split=split, stamp=stamp, parts=tuple(parts))


def found_images(
  folder: str | None,
  name: str,
  stamps: Mapping[str, str],
  images: Mapping[str, tuple[str, ...]],
  *,
  class_name: str,
  split: str,
) -> SourceFile:
  """A listed video that is a folder of images: where it lies, or that it is missing.

  Args:
    folder: within the source; None if it is missing.
    name: by which the owners' lists know it.
    stamps: of all files of the source.
    images: of all folders of the source.
    class_name: its class.
    split: its split.
  """
  if folder is None:
    return SourceFile(path=name, name=name, class_name=class_name, split=split, stamp=MISSING, reader="images")
  return SourceFile(
    path=folder,
    name=name,
    class_name=class_name,
    split=split,
    stamp=joint_stamp(stamps[path] for path in images[folder]),
    reader="images",
    images=images[folder],
  )
