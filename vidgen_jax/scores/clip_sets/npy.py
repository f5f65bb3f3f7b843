"""Arrays in .npy and .npz files, found without being read. Nothing is ever unpickled."""

import lzma
import shutil
import struct
import tempfile
import threading
import tokenize
import weakref
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.readers import UnusableFileError

DAMAGED_ARRAY_ERRORS = (
  *(OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, OverflowError, struct.error, zlib.error),
  # RuntimeError: an encrypted or exotic zip; TokenError: a header that is no Python literal.
  *(lzma.LZMAError, zipfile.BadZipFile, RuntimeError, tokenize.TokenError),
)
"""What zipfile and NumPy raise on damaged files."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ALIGNMENT = 64
_LONGEST_REASON = 160

_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

# A header is a Python literal, and in Python 3.11 threads that parse at the same time disturb each other (SystemError:
# "AST constructor recursion depth mismatch").
_PARSING = threading.Lock()


@dataclass(frozen=True)
class Header:
  """What an array says about itself."""

  dtype: np.dtype
  shape: tuple[int, ...]
  is_fortran: bool
  size: int
  """Bytes of the header."""

  @property
  def num_bytes(self) -> int:
    """Of the values."""
    # In Python's integers, which a damaged header does not overflow.
    count = self.dtype.itemsize
    for length in self.shape:
      count *= length
    return count


@dataclass(frozen=True)
class MappedArray:
  """An array whose values lie in a file as they are in memory.

  It is mapped anew whenever it is wanted, since a mapping holds a file open and a folder may have thousands of files.
  """

  file: Path | BinaryIO
  header: Header
  offset: int
  """Of the values, in bytes."""

  def load(self) -> np.ndarray:
    """The array, read from the disk as it is indexed.

    Raises:
      OSError, ValueError: if the file has changed.
    """
    order = "F" if self.header.is_fortran else "C"
    return np.memmap(
      self.file, dtype=self.header.dtype, mode="r", offset=self.offset, shape=self.header.shape, order=order
    )


@dataclass(frozen=True)
class PackedArray:
  """A compressed array, small enough to be unpacked into memory whenever it is wanted."""

  file: Path
  header: Header
  member: str

  def load(self) -> np.ndarray:
    """The array.

    Raises:
      `DAMAGED_ARRAY_ERRORS`: if the file has changed.
    """
    with zipfile.ZipFile(self.file) as archive, archive.open(self.member) as stream:
      stream.read(self.header.size)
      values = np.frombuffer(stream.read(self.header.num_bytes), self.header.dtype)
      return values.reshape(self.header.shape, order="F" if self.header.is_fortran else "C")


class Scratch:
  """One temporary file for what has to be unpacked.

  It has no name, so that nothing is left even if the process is killed.
  """

  def __init__(self):
    self._file: BinaryIO | None = None
    self._lock = threading.Lock()

  def unpack(self, archive: zipfile.ZipFile, member: str, header: Header) -> MappedArray:
    """Unpacks one array.

    Raises:
      UserError: if there is no room.
      `DAMAGED_ARRAY_ERRORS`: if the member is damaged.
    """
    with self._lock, archive.open(member) as stream:
      if self._file is None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
      start = -(-self._file.seek(0, 2) // _ALIGNMENT) * _ALIGNMENT
      self._file.seek(start)
      room = shutil.disk_usage(tempfile.gettempdir()).free
      if room < header.num_bytes:
        raise UserError(
          f"{archive.filename} needs {header.num_bytes / 1e9:.1f} GB to be unpacked and {tempfile.gettempdir()} has "
          f"{room / 1e9:.1f} GB free; set TMPDIR to a larger disk or save it with numpy.savez or numpy.save"
        )
      shutil.copyfileobj(stream, self._file, 1 << 20)
      self._file.flush()
      if self._file.tell() - start < header.size + header.num_bytes:
        raise ValueError("fewer values than the header says")
      return MappedArray(self._file, header, start + header.size)

  def close(self) -> None:
    """Gives the room on the disk back."""
    if self._file is not None:
      self._file.close()


def open_npy(path: Path) -> MappedArray:
  """The array of a .npy file.

  Raises:
    UnusableFileError: if it is damaged or holds Python objects.
  """
  try:
    with path.open("rb") as file:
      header = _read_header(file)
    size = path.stat().st_size
  except DAMAGED_ARRAY_ERRORS as error:
    raise _damaged(error) from error
  if size < header.size + header.num_bytes:
    raise UnusableFileError("damaged: fewer values than its header says")
  return MappedArray(path, header, header.size)


def npz_headers(path: Path) -> dict[str, Header]:
  """What the arrays of a .npz file say about themselves, by key. Arrays of Python objects are left out.

  Raises:
    UnusableFileError: if it is damaged, or has Python objects only.
  """
  headers, objects = {}, []
  try:
    with zipfile.ZipFile(path) as archive:
      for member in archive.namelist():
        if member.endswith(".npy"):
          key = member.removesuffix(".npy")
          with archive.open(member) as stream:
            try:
              headers[key] = _read_header(stream)
            except UnusableFileError:
              objects.append(key)
  except DAMAGED_ARRAY_ERRORS as error:
    raise _damaged(error) from error
  if objects and not headers:
    raise UnusableFileError(f"holds only Python objects ({', '.join(objects)}), which are never unpickled")
  return headers


def open_npz(path: Path, key: str, scratch: Scratch) -> MappedArray | PackedArray:
  """One array of a .npz file.

  Args:
    path: the file.
    key: of the array, one of those of `npz_headers`.
    scratch: where an array of many clips (more than 4 axes) is unpacked to, if it is compressed.

  Raises:
    UnusableFileError: if it is damaged.
    UserError: if there is no room to unpack it.
  """
  member = f"{key}.npy"
  try:
    with zipfile.ZipFile(path) as archive:
      info = archive.getinfo(member)
      with archive.open(member) as stream:
        header = _read_header(stream)
        if info.file_size < header.size + header.num_bytes:
          raise UnusableFileError("damaged: fewer values than its header says")
        if info.compress_type == zipfile.ZIP_STORED:
          return MappedArray(path, header, _data_offset(path, info) + header.size)
        if len(header.shape) <= 4:
          # To its end, where zipfile compares the check sum.
          while stream.read(1 << 20):
            pass
          return PackedArray(path, header, member)
      return scratch.unpack(archive, member, header)
  except DAMAGED_ARRAY_ERRORS as error:
    raise _damaged(error) from error


def _read_header(stream: BinaryIO) -> Header:
  """Reads the beginning of a .npy file."""
  version = np.lib.format.read_magic(stream)
  if version not in _HEADER_READERS:
    raise ValueError(f"unknown .npy version {version}")
  with _PARSING:
    shape, is_fortran, dtype = _HEADER_READERS[version](stream)
  if dtype.hasobject:
    raise UnusableFileError("holds Python objects, which are never unpickled; save clips as a plain uint8 array")
  if min(shape, default=0) < 0:
    raise ValueError(f"impossible shape {shape}")
  return Header(dtype=dtype, shape=shape, is_fortran=is_fortran, size=stream.tell())


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
  """Where the bytes of a member begin; its own header may have another length than the archive's directory says."""
  with path.open("rb") as file:
    file.seek(info.header_offset)
    _, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
  return info.header_offset + _LOCAL_HEADER.size + name_length + extra_length


def _damaged(error: Exception) -> UnusableFileError:
  reason = " ".join(str(error).split()) or type(error).__name__
  return UnusableFileError(f"damaged: {reason[:_LONGEST_REASON]}")
