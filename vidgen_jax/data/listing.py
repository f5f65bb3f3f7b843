"""Lists the video files of a folder or an archive; their paths determine class and split."""

import dataclasses
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from vidgen_jax.data.decode import DecodedVideo, DecodeOptions
from vidgen_jax.errors import UserError

UNLABELLED = "unlabelled"
"""Class of all files if there are no class folders."""

MISSING = "missing"
"""Stamp of a file that a list names but the source lacks."""

_SPLIT_FOLDERS = {"train": "train", "test": "test", "validation": "validation", "val": "validation"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile:
  """A video of the source: a file, a folder of images, or some of the clips in one file.

  Attributes:
    path: path within the source, with '/'; for images, the path of their folder.
    class_name: class of the video; None for a file outside of the class folders.
    split: 'train', 'test' or 'validation' if the top folder or a list names it, else None.
    stamp: string that changes with the content (from size and modification time), or `MISSING`.
    parts: (first frame, frame after the last) of each part to use as a clip of its own; () uses the whole video.
    name: name of the video in the owners' lists; '' without lists.
    reader: function (source, file, options) that reads the video; None for video files, strips and folders of images.
      Raises UnreadableVideoError or OSError.
    images: paths of the frames within the source, in order, if every frame is a file; else ().
    clips: (first, index after the last) of the clips to use of a file with many clips; None for other files.
  """

  path: str
  class_name: str | None
  split: str | None
  stamp: str
  parts: tuple[tuple[int, int], ...] = ()
  name: str = ""
  reader: "Reader | None" = None
  images: tuple[str, ...] = ()
  clips: tuple[int, int] | None = None

  @property
  def identity(self) -> str:
    """Path and range of clips, unique within a source."""
    return self.path if self.clips is None else "{}[{}:{}]".format(self.path, *self.clips)


class Source:
  """A folder, or a zip or uncompressed tar file, which is read without unpacking it.

  Args:
    path: path of the folder or archive; `~` is expanded.
    nested: whether archives within a folder are listed as folders of the same name: 'walk.zip/daria_walk.avi'.

  Raises:
    UserError: if the path does not exist.
  """

  def __init__(self, path: str | Path, *, nested: bool = False):
    self.path = Path(path).expanduser()
    self.nested = nested
    self._archives: dict[str, _Archive] = {}
    if not self.path.exists():
      raise UserError(f"--source {self.path} does not exist; give a folder <class>/<file>, a folder of files, or a zip")

  def __getstate__(self) -> dict[str, Any]:
    # Another process opens the archives itself.
    return self.__dict__ | {"_archives": {}}

  def __enter__(self) -> "Source":
    return self

  def __exit__(self, *exc_info) -> None:
    for archive in self._archives.values():
      archive.close()

  def files(self) -> list[SourceFile]:
    """Lists all files except hidden ones, in a fixed order; raises UserError if there are none.

    Layouts: `<class>/<file>`, `<file>`, and both below `train/` and `test/` (and `validation/` or `val/`). Subfolders
    of a class folder belong to that class.
    """
    if not (stamps := self.stamps()):
      raise UserError(f"--source {self.path} contains no files")
    parts = {path: PurePosixPath(path).parts for path in stamps}
    tops = {names[0] for names in parts.values() if len(names) > 1}
    has_splits = bool(tops) and tops <= set(_SPLIT_FOLDERS) and all(len(names) > 1 for names in parts.values())
    rest = {path: names[1:] if has_splits else names for path, names in parts.items()}
    flat = all(len(names) == 1 for names in rest.values())
    listed = []
    for path, names in rest.items():
      class_name = UNLABELLED if flat else (names[0] if len(names) > 1 else None)
      split = _SPLIT_FOLDERS[parts[path][0]] if has_splits else None
      listed.append(SourceFile(path=path, class_name=class_name, split=split, stamp=stamps[path]))
    return listed

  def stamps(self) -> dict[str, str]:
    """Stamp by path of all files except hidden ones, in a fixed order; raises UserError if they cannot be listed."""
    try:
      stamps = self._archive("").stamps if self.path.is_file() else self._folder_stamps()
    except OSError as error:
      raise UserError(f"--source {self.path} cannot be listed: {error}") from error
    return {path: stamp for path, stamp in stamps.items() if not _is_hidden(path)}

  def open(self, path: str) -> BinaryIO:
    """Opens a file as a seekable binary stream; raises OSError if it cannot be read."""
    archive, member = self._locate(path)
    if archive is None:
      return (self.path / path).open("rb")
    try:
      return io.BytesIO(archive.read(member))
    except (*_ARCHIVE_ERRORS, KeyError, RuntimeError, NotImplementedError, EOFError) as error:
      raise OSError(f"cannot unpack: {error}") from error

  def _locate(self, path: str) -> tuple["_Archive | None", str]:
    """(archive that contains a file, path there); (None, path) for a file of the folder."""
    if self.path.is_file():
      return self._archive(""), path
    for outer in PurePosixPath(path).parents if self.nested else ():
      if _is_archive(outer.name) and (self.path / outer).is_file():
        return self._archive(outer.as_posix()), PurePosixPath(path).relative_to(outer).as_posix()
    return None, path

  def _archive(self, path: str) -> "_Archive":
    """An archive within the folder; '' is the source itself."""
    if path not in self._archives:
      try:
        self._archives[path] = _open_archive(self.path / path)
      except _ARCHIVE_ERRORS as error:
        raise OSError(f"{self.path / path} is not a zip or tar file, or damaged: {error}") from error
    return self._archives[path]

  def _folder_stamps(self) -> dict[str, str]:
    stamps = {}
    for path in sorted(self.path.rglob("*")):
      if not path.is_file():
        continue
      name = path.relative_to(self.path).as_posix()
      if self.nested and _is_archive(name) and not _is_hidden(name):
        stamps |= {f"{name}/{member}": stamp for member, stamp in self._archive(name).stamps.items()}
      else:
        status = path.stat()
        stamps[name] = f"{status.st_size} {status.st_mtime_ns}"
    return stamps


Reader = Callable[[Source, SourceFile, DecodeOptions], DecodedVideo]

_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError)


def _is_archive(path: str) -> bool:
  return path.lower().endswith((".zip", ".tar"))


def _is_hidden(path: str) -> bool:
  return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(path).parts)


class _Archive(NamedTuple):
  stamps: dict[str, str]
  read: Callable[[str], bytes]
  close: Callable[[], None]


def _open_archive(path: Path) -> _Archive:
  if zipfile.is_zipfile(path):
    archive = zipfile.ZipFile(path)
    stamps = {info.filename: f"{info.file_size} {info.CRC}" for info in archive.infolist() if not info.is_dir()}
    return _Archive(dict(sorted(stamps.items())), archive.read, archive.close)
  # Members of compressed tar files have no random access: "r:" refuses them.
  with tarfile.open(path, "r:") as opened:
    members = {member.name.removeprefix("./"): member for member in opened.getmembers() if member.isfile()}
  stamps = {name: f"{member.size} {member.mtime}" for name, member in sorted(members.items())}

  def read(name: str) -> bytes:
    with path.open("rb") as file:
      file.seek(members[name].offset_data)
      return file.read(members[name].size)

  return _Archive(stamps, read, lambda: None)
