"""How the files of a published data set are to be read, and what its layouts share."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

from vidgen_jax.data.listing import MISSING, Source, SourceFile
from vidgen_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """How the files of a published data set are to be read.

  Attributes:
    name: of the data set, and of its builder.
    list_files: (source, rule) -> the videos that the rule uses, those that the source lacks marked as such.
    num_videos: by rule, the first being the default, and by split as far as known: how many the complete set has.
    obtain: what to fetch and where it is to be had, how to lay it out, the space that it takes and how long a build
      runs, as a sentence that begins with 'fetch'.
    fps: frames per second where the files, being pictures, do not say it; 0 for unknown.
  """

  name: str
  list_files: Callable[[Source, str], list[SourceFile]]
  num_videos: Mapping[str, Mapping[str, int]]
  obtain: str
  fps: float = 0.0

  def files(self, source: Source, rule: str) -> list[SourceFile]:
    """The videos of a split rule, in a fixed order.

    Raises:
      UserError: if there is no such rule, or the source does not hold the data set.
    """
    if rule not in self.num_videos:
      raise UserError(f"--split_rule={rule} is none of {', '.join(self.num_videos)}, which {self.name} has")
    files = self.list_files(source, rule)
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
