"""Which files of a folder belong to which clip, and to which class."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from vidgen_jax.scores.clip_sets.images import IMAGE_SUFFIXES, frame_series

ARRAY_SUFFIXES = frozenset((".npy", ".npz"))

# What data sets and programs leave beside their clips.
_IGNORED_SUFFIXES = frozenset(
  (".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".yaml", ".yml", ".xml", ".html", ".pdf", ".log", ".py", ".sh")
)
_IGNORED_NAMES = frozenset(("thumbs.db", "desktop.ini", "license", "readme"))
_SPLIT_FOLDERS = frozenset(("train", "test", "val", "validation"))


class Entry(NamedTuple):
  """A file or folder that holds one clip, or an array file that may hold several."""

  path: Path
  name: str
  """Path within the folder that was listed, with '/'."""
  kind: Literal["video", "array", "frames"]
  frames: tuple[Path, ...] = ()
  """Of kind 'frames': the images."""


class Listing(NamedTuple):
  """What a folder holds."""

  entries: list[Entry]
  """In the order of their names."""
  skipped: list[tuple[str, str]]
  """(name, reason)."""


def list_folder(root: Path) -> Listing:
  """Lists the clips below a folder. Hidden files and leftovers such as .txt and .json are passed over.

  Raises:
    OSError: if a folder cannot be read.
  """
  entries, skipped = [], []
  for folder, files in _folders(root):
    images = frame_series([file for file in files if file.suffix.lower() in IMAGE_SUFFIXES])
    name = folder.relative_to(root).as_posix()
    if images.frames:
      entries.append(Entry(folder, root.name if name == "." else name, "frames", tuple(images.frames)))
    if images.problem:
      skipped.append((name, images.problem))
    single = [file for file in files if file.suffix.lower() not in IMAGE_SUFFIXES] + images.others
    for file in single:
      kind = "array" if file.suffix.lower() in ARRAY_SUFFIXES else "video"
      entries.append(Entry(file, file.relative_to(root).as_posix(), kind))
  return Listing(sorted(entries, key=lambda entry: _natural(entry.name)), skipped)


def _natural(name: str) -> list[list[tuple[int, int, str]]]:
  """Sorts numbers within names as numbers: clip_2 before clip_10, as whoever wrote them counted."""
  parts = [re.split(r"(\d+)", part) for part in name.split("/")]
  return [[(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in words if p] for words in parts]


def class_labels(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """Reads classes off the top folders.

  Args:
    names: of the entries that hold clips.

  Returns:
    int32[len(names)] and the names of the classes, sorted; None and () unless every clip lies in a top folder, of which
    there are at least two, and they are not the splits of a data set.
  """
  parts = [name.split("/") for name in names]
  tops = sorted({names[0] for names in parts})
  if len(tops) < 2 or any(len(names) < 2 for names in parts) or _SPLIT_FOLDERS.issuperset(tops):
    return None, ()
  index = {top: label for label, top in enumerate(tops)}
  return np.array([index[names[0]] for names in parts], np.int32), tuple(tops)


def _folders(root: Path) -> Iterator[tuple[Path, list[Path]]]:
  """Every folder and its files. Links are followed, since large data sets are often linked together, but no circle."""
  seen = set()
  for folder, subfolders, files in os.walk(root, onerror=_raise, followlinks=True):
    real = os.path.realpath(folder)
    if real in seen:
      subfolders.clear()
      continue
    seen.add(real)
    subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name != "__MACOSX")
    yield Path(folder), [Path(folder, name) for name in sorted(files) if not _is_leftover(name)]


def _is_leftover(name: str) -> bool:
  path = Path(name)
  return name.startswith(".") or path.suffix.lower() in _IGNORED_SUFFIXES or name.lower() in _IGNORED_NAMES


def _raise(error: OSError) -> None:
  raise error
