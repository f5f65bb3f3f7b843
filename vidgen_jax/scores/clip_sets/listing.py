"""Lists the clips of a folder and their classes."""

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vidgen_jax.data.decode import DAMAGED_IMAGE_ERRORS, IMAGE_FORMATS, UnreadableVideoError
from vidgen_jax.data.still_images import ANIMATED_FORMATS
from vidgen_jax.scores.clip_sets.videos import IMAGE_SUFFIXES

# Files that data sets and programs store next to their clips.
_IGNORED_SUFFIXES = frozenset(
  (".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".yaml", ".yml", ".xml", ".html", ".pdf", ".log", ".py", ".sh")
)
_IGNORED_NAMES = frozenset(("thumbs.db", "desktop.ini", "license", "readme"))
_SPLIT_FOLDERS = frozenset(("train", "test", "val", "validation"))
_MIN_STRIP_FRAMES = 3  # an image twice as wide as high may be a single frame


class Entry(NamedTuple):
  """A file with one or several clips, or a folder with the frames of one clip."""

  path: Path
  name: str
  """Path relative to the listed folder, with '/'."""
  frames: Sequence[Path] = ()
  """Images of a folder of frames, in order."""


def list_folder(root: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
  """Lists the clips in a folder and its subfolders. Hidden files and other files such as .txt and .json are ignored.

  Returns:
    The clips sorted by name, with numbers compared as numbers, and (name, reason) of folders with images that cannot be
    assigned to clips.

  Raises:
    OSError: if a folder cannot be read.
  """
  entries, skipped = [], []
  for folder, files in _folders(root):
    # Names of single frames have numbers; other images, such as previews and strips, are files of their own.
    frames = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and re.search(r"\d", file.stem)]
    if len(frames) < 2 or _holds_strips(frames):
      frames = []
    else:
      name = root.name if folder == root else folder.relative_to(root).as_posix()
      try:
        entries.append(Entry(folder, name, _ordered(frames)))
      except UnreadableVideoError as error:
        skipped.append((name, str(error)))
    entries += [Entry(file, file.relative_to(root).as_posix()) for file in sorted({*files} - {*frames})]
  return sorted(entries, key=lambda entry: _natural(entry.name)), skipped


def class_folders(names: Sequence[str]) -> tuple[str, ...]:
  """The sorted top folders of the entries with these names, if they are classes.

  They are if every entry is in one of at least two top folders that are not the splits of a data set; () if not.
  """
  parts = [name.split("/") for name in names]
  tops = sorted({names[0] for names in parts})
  is_classes = len(tops) > 1 and all(len(names) > 1 for names in parts) and not _SPLIT_FOLDERS.issuperset(tops)
  return tuple(tops) if is_classes else ()


def _ordered(frames: Sequence[Path]) -> list[Path]:
  """Sorts the frames of one clip; UnreadableVideoError unless their names differ in one number that counts evenly."""
  patterns = sorted({re.sub(r"\d+", "#", file.name) for file in frames})
  if len(patterns) > 1:
    raise UnreadableVideoError(f"images named {patterns[0]} and {patterns[1]}; give each clip a folder of its own")
  columns = zip(*(map(int, re.findall(r"\d+", file.name)) for file in frames), strict=True)
  varying = [column for column in columns if len(set(column)) > 1]
  if len(varying) != 1 or len(set(varying[0])) != len(frames):
    raise UnreadableVideoError(
      f"images named {patterns[0]} do not differ in exactly one number; number the frames of one clip"
    )
  pairs = list(itertools.pairwise(sorted(varying[0])))
  step = min(after - before for before, after in pairs)
  if gaps := [before for before, after in pairs if after - before != step]:
    raise UnreadableVideoError(f"the frame after number {gaps[0]} is missing")
  return [file for _, file in sorted(zip(varying[0], frames, strict=True))]


def _holds_strips(files: Sequence[Path]) -> bool:
  """Whether the first readable image is a strip or animated; True if none is readable: then they are no frames."""
  for file in files:
    try:
      with Image.open(file, formats=IMAGE_FORMATS) as image:
        side, length = sorted(image.size)
        is_animated = image.format in ANIMATED_FORMATS and getattr(image, "is_animated", False)
    except DAMAGED_IMAGE_ERRORS:
      continue
    return is_animated or (length % side == 0 and length // side >= _MIN_STRIP_FRAMES)
  return True


def _natural(name: str) -> list[list[tuple[int, int, str]]]:
  """Sort key in which clip_2 comes before clip_10."""
  parts = [re.split(r"(\d+)", part) for part in name.split("/")]
  return [[(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in words if p] for words in parts]


def _folders(root: Path) -> Iterator[tuple[Path, list[Path]]]:
  """Every folder with its files."""
  seen = set()
  # Large data sets are often assembled from links, which can form circles.
  for folder, subfolders, files in os.walk(root, onerror=_raise, followlinks=True):
    real = os.path.realpath(folder)
    if real in seen:
      subfolders.clear()
      continue
    seen.add(real)
    subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name != "__MACOSX")
    yield Path(folder), [Path(folder, name) for name in sorted(files) if not _is_ignored(name)]


def _is_ignored(name: str) -> bool:
  return name.startswith(".") or Path(name).suffix.lower() in _IGNORED_SUFFIXES or name.lower() in _IGNORED_NAMES


def _raise(error: OSError) -> None:
  raise error
