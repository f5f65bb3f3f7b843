"""Which video files a folder or an archive holds, and what their places say about class and split."""

import dataclasses
import functools
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from vidgen_jax.errors import UserError

UNLABELLED = "unlabelled"
"""The one class of files that lie in no class folder."""

MISSING = "missing"
"""The stamp of a file that a list names and the source does not have."""

_SPLIT_FOLDERS = {"train": "train", "test": "test", "validation": "validation", "val": "validation"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile:
  """A video of the source: a file, a folder of images, or some of the clips that one file holds.

  Attributes:
    path: path within the source, with '/'; for images, of their folder.
    class_name: its class; None for a file that lies beside the class folders.
    split: 'train', 'test' or 'validation' if its top folder or a list says so, otherwise None.
    stamp: changes when the content does: size and time of modification; or `MISSING`.
    parts: (first frame, frame behind the last) of what is used of it, each by itself; () uses it whole.
    name: by which the owners' lists know it; '' where there are none.
    reader: how it is read, a name in `readers.READERS`.
    images: its frames in order, paths within the source, where each is a file; () otherwise.
    clips: of a file that holds many clips, (first, the one behind the last) of those that are meant; None otherwise.
  """

  path: str
  class_name: str | None
  split: str | None
  stamp: str
  parts: tuple[tuple[int, int], ...] = ()
  name: str = ""
  reader: str = "video"
  images: tuple[str, ...] = ()
  clips: tuple[int, int] | None = None

  @property
  def identity(self) -> str:
    """The path, and which clips of the file are meant; no two videos of a source share it."""
    return self.path if self.clips is None else "{}[{}:{}]".format(self.path, *self.clips)


def joint_stamp(stamps: Iterable[str]) -> str:
  """One stamp for several files."""
  return hashlib.sha256("\n".join(stamps).encode()).hexdigest()


class Source:
  """A folder, or a zip or tar file that is read without unpacking it.

  Args:
    path: the folder or archive; `~` is expanded.
    nested: whether archives within a folder are read as folders of their names: 'walk.zip/daria_walk.avi'.

  Raises:
    UserError: if it is neither.
  """

  def __init__(self, path: str | Path, *, nested: bool = False):
    self.path = Path(path).expanduser()
    self.nested = nested
    self._archives: dict[str, _Archive] = {}
    self._lock = threading.Lock()
    if self.path.is_file():
      try:
        self._archives[""] = _open_archive(self.path)
      except (*_ARCHIVE_ERRORS, OSError) as error:
        raise UserError(f"--source {self.path} is neither a folder nor a readable zip or tar file: {error}") from error
    elif not self.path.is_dir():
      raise UserError(f"--source {self.path} does not exist; give a folder <class>/<file>, a folder of files, or a zip")

  def __reduce__(self) -> tuple[Any, ...]:
    """Another process opens the source anew."""
    return functools.partial(type(self), self.path, nested=self.nested), ()

  def __enter__(self) -> "Source":
    return self

  def __exit__(self, *exc_info) -> None:
    for archive in self._archives.values():
      archive.close()

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
      stamps = self._archives[""].stamps() if self.path.is_file() else self._folder_stamps()
    except (*_ARCHIVE_ERRORS, OSError) as error:
      raise UserError(f"--source {self.path} cannot be listed: {error}") from error
    return {path: stamp for path, stamp in stamps.items() if not _hidden(path)}

  def open(self, path: str) -> BinaryIO:
    """Opens a file for reading; it can be searched. Several threads may do so at a time.

    Raises:
      OSError: if it cannot be read, or its part of the archive is damaged.
    """
    archive, member = self._locate(path)
    if archive is None:
      return (self.path / path).open("rb")
    try:
      return archive.open(member)
    except (*_ARCHIVE_ERRORS, KeyError, RuntimeError, NotImplementedError, EOFError) as error:
      raise OSError(f"cannot unpack: {error}") from error

  def _locate(self, path: str) -> tuple["_Archive | None", str]:
    """The archive that a file lies in, and its path there; None for a file of the folder."""
    if self.path.is_file():
      return self._archives[""], path
    parts = PurePosixPath(path).parts
    for length in range(1, len(parts)) if self.nested else ():
      outer = "/".join(parts[:length])
      if _is_archive(outer) and (self.path / outer).is_file():
        return self._archive(outer), "/".join(parts[length:])
    return None, path

  def _archive(self, path: str) -> "_Archive":
    """An archive within the folder, opened once."""
    with self._lock:
      if path not in self._archives:
        try:
          self._archives[path] = _open_archive(self.path / path)
        except _ARCHIVE_ERRORS as error:
          raise OSError(f"{path} is a damaged archive: {error}") from error
      return self._archives[path]

  def _folder_stamps(self) -> dict[str, str]:
    stamps = {}
    for path in sorted(self.path.rglob("*")):
      if not path.is_file():
        continue
      name = path.relative_to(self.path).as_posix()
      if self.nested and _is_archive(name) and not _hidden(name):
        stamps |= {f"{name}/{member}": stamp for member, stamp in self._archive(name).stamps().items()}
      else:
        status = path.stat()
        stamps[name] = f"{status.st_size} {status.st_mtime_ns}"
    return stamps


_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError)


def _is_archive(path: str) -> bool:
  return path.lower().endswith((".zip", ".tar"))


@dataclasses.dataclass(frozen=True)
class _Archive:
  """Random access to the members of an archive, by several threads at a time."""

  stamps: Callable[[], dict[str, str]]
  open: Callable[[str], BinaryIO]
  close: Callable[[], None]


def _open_archive(path: Path) -> _Archive:
  """Opens a zip file, or a tar file that is not compressed: in others members cannot be reached by themselves."""
  if not zipfile.is_zipfile(path):
    return _open_tar(path)
  opened = zipfile.ZipFile(path)

  def stamps() -> dict[str, str]:
    members = sorted(opened.infolist(), key=lambda member: member.filename)
    return {member.filename: f"{member.file_size} {member.CRC}" for member in members if not member.is_dir()}

  return _Archive(stamps, lambda member: io.BytesIO(opened.read(member)), opened.close)


def _open_tar(path: Path) -> _Archive:
  with tarfile.open(path, "r:") as opened:
    members = {member.name.removeprefix("./"): member for member in opened.getmembers() if member.isfile()}

  def read(name: str) -> BinaryIO:
    member = members[name]
    with path.open("rb") as file:
      file.seek(member.offset_data)
      data = file.read(member.size)
    if len(data) < member.size:
      raise EOFError(f"the archive ends within {name}")
    return io.BytesIO(data)

  stamps = {name: f"{member.size} {member.mtime}" for name, member in sorted(members.items())}
  return _Archive(lambda: stamps, read, lambda: None)


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
