"""Lists the clips of a folder and their classes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vidgen_jax.data import folders


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
  seen = folders.visible(sorted(folders.walk(root)), what=str(root))
  paths = [path for path in seen if not folders.is_no_video(path)]
  entries, skipped, grouped = [], [], set()
  for folder, frames, reason, undecided in folders.group_images(paths, lambda path: (root / path).open("rb")):
    grouped |= {*frames, *undecided}
    skipped += [(path, folders.UNDECIDED) for path in sorted(undecided)]
    name = folder or root.name
    if reason:
      skipped.append((name, reason))
    elif frames:
      entries.append(Entry(root / folder, name, [root / frame for frame in frames]))
  entries += [Entry(root / path, path) for path in paths if path not in grouped]
  return sorted(entries, key=lambda entry: _natural(entry.name)), skipped


def class_folders(names: Sequence[str]) -> tuple[str, ...]:
  """The sorted top folders of the entries with these names, if they are classes.

  They are if every entry is in one of at least two top folders, none of which are the splits of a data set; () if not.
  """
  parts = [name.split("/") for name in names]
  tops = sorted({names[0] for names in parts})
  is_classes = len(tops) > 1 and all(len(names) > 1 for names in parts) and not folders.split_folders(names)
  return tuple(tops) if is_classes else ()


def _natural(name: str) -> list[list[tuple[int, int, str]]]:
  """Sort key in which clip_2 comes before clip_10."""
  parts = [re.split(r"(\d+)", part) for part in name.split("/")]
  return [[(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in words if p] for words in parts]
