"""Which video files a folder or a zip holds, and what their places say about class and split."""

import dataclasses
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vidgen_jax.errors import UserError

UNLABELLED = "unlabelled"
"""The one class of files that lie in no class folder."""

MISSING = "missing"
"""The stamp of a file that a list names and the source does not have."""

_SPLIT_FOLDERS = {"train": "train", "test": "test", "validation": "validation", "val": "validation"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile:
  """A file of the source.

  Attributes:
    path: path within the source, with '/'.
    class_name: its class; None for a file that lies beside the class folders.
    split: 'train', 'test' or 'validation' if its top folder says so, otherwise None.
    stamp: changes when the file's content does: size and time of modification; or `MISSING`.
    parts: (first frame, frame behind the last) of what is used of it, each by itself; () uses it whole.
    name: by which the owners' lists know it; '' where there are none.
  """

  path: str
  class_name: str | None
  split: str | None
  stamp: str
  parts: tuple[tuple[int, int], ...] = ()
  name: str = ""


class Source:
  """A folder, or a zip file that is read without unpacking it.

  Args:
    path: the folder or zip; `~` is expanded.

  Raises:
    UserError: if it is neither.
  """

  def __init__(self, path: str | Path):
    self.path = Path(path).expanduser()
    self._zip = None
    if self.path.is_file():
      try:
        self._zip = zipfile.ZipFile(self.path)
      except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"--source {self.path} is neither a folder nor a readable zip file: {error}") from error
    elif not self.path.is_dir():
      raise UserError(f"--source {self.path} does not exist; give a folder <class>/<file>, a folder of files, or a zip")

  def __enter__(self) -> "Source":
    return self

  def __exit__(self, *exc_info) -> None:
    if self._zip is not None:
      self._zip.close()

  def files(self) -> list[SourceFile]:
    """All files in a fixed order; hidden ones are left out.

    The layouts are `<class>/<file>`, `<file>`, and both below `train/` and `test/` (and `validation/` or `val/`).
    Folders within a class folder belong to that class.

    Raises:
      UserError: if there are none.
    """
    listed = list(_interpret(self.stamps()))
    if not listed:
      raise UserError(f"--source {self.path} holds no files")
    return listed

  def stamps(self) -> dict[str, str]:
    """The stamp of every file by its path within the source, in a fixed order; hidden ones are left out.

    Raises:
      UserError: if the source cannot be listed.
    """
    try:
      stamps = self._zip_stamps() if self._zip is not None else self._folder_stamps()
    except OSError as error:
      raise UserError(f"--source {self.path} cannot be listed: {error}") from error
    return {path: stamp for path, stamp in stamps.items() if not _hidden(path)}

  def open(self, path: str) -> BinaryIO:
    """Opens a file for reading; it can be searched. Several threads may do so at a time.

    Raises:
      OSError: if it cannot be read, or its part of the zip is damaged.
    """
    if self._zip is None:
      return (self.path / path).open("rb")
    try:
      return io.BytesIO(self._zip.read(path))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
      raise OSError(f"cannot unpack: {error}") from error

  def _folder_stamps(self) -> dict[str, str]:
    stamps = {}
    for path in sorted(self.path.rglob("*")):
      if path.is_file():
        status = path.stat()
        stamps[path.relative_to(self.path).as_posix()] = f"{status.st_size} {status.st_mtime_ns}"
    return stamps

  def _zip_stamps(self) -> dict[str, str]:
    members = sorted(self._zip.infolist(), key=lambda member: member.filename)
    return {member.filename: f"{member.file_size} {member.CRC}" for member in members if not member.is_dir()}


def _interpret(stamps: dict[str, str]) -> Iterable[SourceFile]:
  """Reads class and split off the paths."""
  parts = {path: PurePosixPath(path).parts for path in stamps}
  tops = {names[0] for names in parts.values() if len(names) > 1}
  has_splits = bool(tops) and tops <= set(_SPLIT_FOLDERS) and all(len(names) > 1 for names in parts.values())
  rest = {path: names[1:] if has_splits else names for path, names in parts.items()}
  flat = all(len(names) == 1 for names in rest.values())
  for path, names in rest.items():
    class_name = UNLABELLED if flat else (names[0] if len(names) > 1 else None)
    split = _SPLIT_FOLDERS[parts[path][0]] if has_splits else None
    yield SourceFile(path=path, class_name=class_name, split=split, stamp=stamps[path])


def _hidden(path: str) -> bool:
  return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(path).parts)
