"""What the files of a folder are: splits, classes, hidden files, files that are no videos, and frames of one clip."""

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NamedTuple

from absl import logging
from PIL import Image

from vidgen_jax.data.source_frames import UnreadableVideoError
from vidgen_jax.data.still_images import ANIMATED_FORMATS, DAMAGED_IMAGE_ERRORS, IMAGE_FORMATS

SPLIT_FOLDERS = {"train": "train", "test": "test", **dict.fromkeys(("validation", "valid", "val"), "validation")}
"""Split by the name of a top folder in small letters."""

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"))

_VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".webm", ".mkv", ".gif", ".m4v", ".mpg", ".mpeg", ".ogv", ".flv", ".wmv")

Images = Literal["auto", "frames", "strips"]
"""What the images of a folder are: frames of one clip, or strips; 'auto' decides by their sizes."""

# Files that data sets and programs store next to their clips.
_NO_VIDEO_SUFFIXES = frozenset(
  (".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".yaml", ".yml", ".xml", ".html", ".pdf", ".log", ".py", ".sh")
)
_NO_VIDEO_NAMES = frozenset(("thumbs.db", "desktop.ini", "license", "readme"))
_MIN_STRIP_FRAMES = 3  # An image that is twice as wide as high may be a single frame.


def is_hidden(path: str) -> bool:
  """Whether a file, or a folder above it within the source, is hidden."""
  return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(path).parts)


def visible(paths: Collection[str], *, what: str) -> list[str]:
  """The paths that are not hidden; logs how many of `what` are."""
  seen = [path for path in paths if not is_hidden(path)]
  if len(seen) < len(paths):
    logging.info("%s: %d hidden files are skipped", what, len(paths) - len(seen))
  return seen


def is_no_video(name: str) -> bool:
  """Whether the name is that of text or another file that is not read."""
  return PurePosixPath(name).suffix.lower() in _NO_VIDEO_SUFFIXES or PurePosixPath(name).name.lower() in _NO_VIDEO_NAMES


def walk(root: Path) -> Iterator[str]:
  """Paths, with '/', of all files in a folder, also behind symbolic links, in no fixed order.

  A link to a folder that contains it is logged and not followed; a broken link and a hidden folder are files. Raises
  OSError if a folder cannot be read.
  """
  above = {root: (os.path.realpath(root),)}
  for folder, subfolders, files in os.walk(root, onerror=_raise, followlinks=True):
    for name in list(subfolders):
      path = Path(folder, name)
      real = os.path.realpath(path)
      if is_hidden(name):
        subfolders.remove(name)
        files.append(name)
      elif real in above[Path(folder)]:
        logging.warning("%s links to a folder that contains it, and is not followed", path)
        subfolders.remove(name)
      else:
        above[path] = (*above[Path(folder)], real)
    relative = PurePosixPath(Path(folder).relative_to(root).as_posix())
    yield from ((relative / name).as_posix() for name in files)


def _raise(error: OSError) -> None:
  raise error


def split_folders(paths: Iterable[str]) -> dict[str, str]:
  """Split by name of the top folders of videos, if these define splits; else {}.

  They do if two of them are called like splits, or one and there is no other. Other folders and files next to them
  are then no classes. `paths` are those of all files, with '/'.
  """
  tops = {path.partition("/")[0] for path in paths if "/" in path and not is_no_video(path)}
  splits = {top: SPLIT_FOLDERS[top.lower()] for top in tops if top.lower() in SPLIT_FOLDERS}
  return splits if len(splits) > 1 or splits.keys() == tops else {}


UNDECIDED = "an image of 2:1 may be a frame or a strip of two"
"""Why `GroupedImages.undecided` are not used."""


class GroupedImages(NamedTuple):
  """The images of a folder; those in neither field are files of their own, such as strips and previews."""

  folder: str
  """'' is the source itself."""
  frames: tuple[str, ...] = ()
  """Frames of one clip, in order."""
  reason: str = ""
  """Why `frames` cannot be used; '' if they can."""
  undecided: frozenset[str] = frozenset()
  """Images that can be a frame as well as a strip of two."""


def group_images(
  paths: Collection[str], open_file: Callable[[str], BinaryIO], *, images: Images = "auto"
) -> Iterator[GroupedImages]:
  """Decides what the images of every folder are, by their names and the sizes of the first ones.

  `paths` are those of all files of the source; previews of videos are left out. The images whose names have a number
  are frames of one clip if there are two or more, unless they are strips: the first is animated, or has the form of
  three or more square frames, or an image of another length has the same height.
  """
  videos = {str(PurePosixPath(path).with_suffix("")) for path in paths if path.lower().endswith(_VIDEO_SUFFIXES)}
  folders: dict[str, list[str]] = {}
  for path in paths:
    file = PurePosixPath(path)
    if file.suffix.lower() in IMAGE_SUFFIXES and str(file.with_suffix("")) not in videos:
      folders.setdefault(path.rpartition("/")[0], []).append(path)
  for folder, names in folders.items():
    yield _group(folder, names, open_file, images)


def _group(folder: str, names: Sequence[str], open_file: Callable[[str], BinaryIO], images: Images) -> GroupedImages:
  is_strips, is_double = (images == "strips", False) if images != "auto" else _form(sorted(names), open_file)
  if is_strips:
    return GroupedImages(folder)
  numbered = sorted(name for name in names if re.search(r"\d", PurePosixPath(name).stem))
  frames, reason = (), ""
  if len(numbered) > 1:
    try:
      frames = tuple(_ordered(numbered))
    except UnreadableVideoError as error:
      frames, reason = tuple(numbered), str(error)
  return GroupedImages(folder, frames, reason, frozenset({*names} - {*frames}) if is_double else frozenset())


def _form(names: Sequence[str], open_file: Callable[[str], BinaryIO]) -> tuple[bool, bool]:
  """Whether images are strips, or damaged; whether they are twice as long as the other side.

  Frames have one size, so that only images of one or two squares are compared with others: the former with the last.
  """
  readable = ((name, found) for name in names if (found := _size(name, open_file)) is not None)
  if (first := next(readable, None)) is None:
    return True, False
  side, count = _squares(first[1])
  if count == 0 or count >= _MIN_STRIP_FRAMES:
    return count > 0 or first[1] == (0, 0), False
  others = (found for _, found in readable) if count == 2 else (_size(names[-1], open_file),)
  is_proven = any(found and _squares(found)[0] == side and _squares(found)[1] not in (0, count) for found in others)
  return is_proven, count == 2


def _size(name: str, open_file: Callable[[str], BinaryIO]) -> tuple[int, int] | None:
  """(width, height) of an image; (0, 0) if it is animated, None if it is damaged."""
  try:
    with open_file(name) as file, Image.open(file, formats=IMAGE_FORMATS) as image:
      return (0, 0) if image.format in ANIMATED_FORMATS and getattr(image, "is_animated", False) else image.size
  except DAMAGED_IMAGE_ERRORS:
    return None


def _squares(size: tuple[int, int]) -> tuple[int, int]:
  """Shorter side, and number of squares of that side in a row or a column; 0 if they do not fill the image."""
  side, length = sorted(size)
  return side, length // side if side and length % side == 0 else 0


def _ordered(frames: Sequence[str]) -> list[str]:
  """Sorts the frames of one clip; UnreadableVideoError unless their names differ in one number that counts evenly."""
  files = {frame: PurePosixPath(frame).name for frame in frames}
  patterns = sorted({re.sub(r"\d+", "#", name) for name in files.values()})
  if len(patterns) > 1:
    raise UnreadableVideoError(f"images named {patterns[0]} and {patterns[1]}; give each clip a folder of its own")
  columns = zip(*(map(int, re.findall(r"\d+", name)) for name in files.values()), strict=True)
  varying = [column for column in columns if len(set(column)) > 1]
  if len(varying) != 1 or len(set(varying[0])) != len(frames):
    raise UnreadableVideoError(
      f"images named {patterns[0]} do not differ in exactly one number; number the frames of one clip"
    )
  pairs = list(itertools.pairwise(sorted(varying[0])))
  step = min(after - before for before, after in pairs)
  if gaps := [before for before, after in pairs if after - before != step]:
    raise UnreadableVideoError(f"the frame after number {gaps[0]} is missing")
  return [frame for _, frame in sorted(zip(varying[0], frames, strict=True))]
