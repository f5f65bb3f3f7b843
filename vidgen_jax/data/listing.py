"""Lists the videos of a folder or an archive; their paths determine class and split."""

import dataclasses
import functools
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from absl import logging

from vidgen_jax.data import folders
from vidgen_jax.data.decode import DecodedVideo, DecodeOptions
from vidgen_jax.errors import UserError

UNLABELLED = "unlabelled"
"""Class of all files if there are no class folders."""

MISSING = "missing"
"""Stamp of a file that a list names but the source lacks."""

NO_VIDEO, OUTSIDE = "is no video", "is outside of the split folders"
"""Reasons for files that are left out without being videos of the data set; the latter is followed by the folders."""


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
    excluded: reason why the file is not used; '' if it is.
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
  excluded: str = ""

  @property
  def identity(self) -> str:
    """Path and range of clips, unique within a source."""
    return self.path if self.clips is None else "{}[{}:{}]".format(self.path, *self.clips)


class Source:
  """A folder, a zip or uncompressed tar file, which is read without unpacking it, or a single video.

  Args:
    path: path of the folder or file; `~` is expanded.
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

  def files(self, *, images: folders.Images = "auto") -> list[SourceFile]:
    """Lists all files except hidden ones, in a fixed order; raises UserError if there are none.

    Layouts: `<class>/<file>`, `<file>`, and both below `train/`, `test/`, and `validation/`, `valid/` or `val/`, see
    `folders.split_folders`. Subfolders of a class folder belong to that class. A folder of numbered images is one
    clip, see `folders.group_images`.
    """
    if not (stamps := self.stamps()):
      raise UserError(f"--source {self.path} contains no files")
    split_of = folders.split_folders(stamps)
    listed = []
    for file in self._clips(stamps, images):
      top, *rest = PurePosixPath(file.path).parts
      if folders.is_no_video(file.path):
        file = dataclasses.replace(file, excluded=NO_VIDEO)
      elif split_of and (top not in split_of or not (rest or file.images)):
        file = dataclasses.replace(file, excluded=f"{OUTSIDE} {', '.join(sorted(split_of))}")
      listed.append(dataclasses.replace(file, split=split_of.get(top)))
    if unused := sorted({file.path.partition("/")[0] for file in listed if split_of and file.split is None}):
      logging.warning(
        "--source %s: %s are not used, only %s", self.path, ", ".join(unused), ", ".join(sorted(split_of))
      )
    above = [PurePosixPath(file.path).parts[bool(split_of) : -1] for file in listed]
    flat = not any(names for file, names in zip(listed, above, strict=True) if not file.excluded)
    return [
      dataclasses.replace(file, class_name=UNLABELLED if flat else next(iter(names), None))
      for file, names in zip(listed, above, strict=True)
    ]

  def _clips(self, stamps: Mapping[str, str], images: folders.Images) -> list[SourceFile]:
    """The files, and the folders of images that are frames of one clip, without class and split."""
    grouped: dict[str, SourceFile | None] = {}
    undecided: set[str] = set()
    for folder, frames, reason, double in folders.group_images(stamps, self.open, images=images):
      undecided |= double
      grouped |= dict.fromkeys(frames)
      if frames:
        stamp = hashlib.sha256("\n".join(stamps[frame] for frame in frames).encode()).hexdigest()
        path = folder or self.path.resolve().stem
        clip = SourceFile(path=path, class_name=None, split=None, stamp=stamp, images=frames, excluded=reason)
        grouped[min(frames)] = clip
    listed = []
    for path, stamp in stamps.items():
      reason = f"{folders.UNDECIDED}; pass --images=strips if it is a strip" if path in undecided else ""
      plain = SourceFile(path=path, class_name=None, split=None, stamp=stamp, excluded=reason)
      if (file := grouped.get(path, plain)) is not None:
        listed.append(file)
    return listed

  def stamps(self) -> dict[str, str]:
    """Stamp by path of all files except hidden ones, in a fixed order; raises UserError if they cannot be listed."""
    try:
      stamps = self._file_stamps() if self.path.is_file() else self._folder_stamps()
    except OSError as error:
      raise UserError(f"--source {self.path} cannot be listed: {error}") from error
    return {path: stamps[path] for path in folders.visible(stamps, what=f"--source {self.path}")}

  def open(self, path: str) -> BinaryIO:
    """Opens a file as a seekable binary stream; raises OSError if it cannot be read."""
    archive, member = self._locate(path)
    if archive is None:
      return (self.path / path if self.path.is_dir() else self.path).open("rb")
    try:
      return io.BytesIO(archive.read(member))
    except (*_ARCHIVE_ERRORS, KeyError, RuntimeError, NotImplementedError, EOFError) as error:
      raise OSError(f"cannot unpack: {error}") from error

  def _locate(self, path: str) -> tuple["_Archive | None", str]:
    """(archive that contains a file, path there); (None, path) for a file of the folder."""
    if self.path.is_file():
      return (self._archive("") if self._is_packed else None), path
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

  @functools.cached_property
  def _is_packed(self) -> bool:
    """Whether the source is a zip or tar file, by its content; a damaged one is recognized by its name."""
    return _is_archive(self.path.name) or zipfile.is_zipfile(self.path) or tarfile.is_tarfile(self.path)

  def _file_stamps(self) -> dict[str, str]:
    return self._archive("").stamps if self._is_packed else {self.path.name: _stamp(self.path)}

  def _folder_stamps(self) -> dict[str, str]:
    stamps = {}
    for name in sorted(folders.walk(self.path), key=lambda name: PurePosixPath(name).parts):
      if self.nested and _is_archive(name) and not folders.is_hidden(name):
        stamps |= {f"{name}/{member}": stamp for member, stamp in self._archive(name).stamps.items()}
      else:
        stamps[name] = _stamp(self.path / name)
    return stamps


def _stamp(path: Path) -> str:
  try:
    status = path.stat()
  except FileNotFoundError:
    return MISSING  # A broken link.
  return f"{status.st_size} {status.st_mtime_ns}"


Reader = Callable[[Source, SourceFile, DecodeOptions], DecodedVideo]

_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError)


def _is_archive(path: str) -> bool:
  return path.lower().endswith((".zip", ".tar"))


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
