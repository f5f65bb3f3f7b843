"""Clips in .npy and .npz files. Nothing is unpickled."""

import contextlib
import functools
import io
import lzma
import math
import shutil
import struct
import tempfile
import threading
import tokenize
import weakref
import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.reader import ClipOptions, Reader, UnusableFileError

# Names of the array to read from a .npz file with several candidates.
_PREFERRED_KEYS = ("video", "videos", "samples")

_CHANNELS = (1, 3)
_DAMAGED_ARRAY_ERRORS = (
  *(OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, OverflowError, RuntimeError),
  *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tokenize.TokenError),
)
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MAX_REASON_LENGTH = 160

# NumPy parses a header as a Python literal. In Python 3.11, threads that do so at the same time disturb each other
# (SystemError: "AST constructor recursion depth mismatch").
_PARSING = threading.Lock()


class _Header(NamedTuple):
  shape: tuple[int, ...]
  dtype: np.dtype

  @property
  def num_bytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize


class Scratch:
  """Temporary folder for unpacked arrays. It is removed by `close`, or when the object or the process ends."""

  def __init__(self):
    self._folder: Path | None = None
    self._lock = threading.Lock()

  def unpack(self, archive: zipfile.ZipFile, member: str, num_bytes: int) -> Path:
    """Unpacks a member of an archive, whose checksum is verified; UserError if less than `num_bytes` are free."""
    with self._lock:
      if self._folder is None:
        self._folder = Path(tempfile.mkdtemp(prefix="vidgen_clips_"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
      free = shutil.disk_usage(self._folder).free
      if free < num_bytes:
        raise UserError(
          f"{archive.filename} needs {num_bytes / 1e9:.1f} GB to be unpacked and {self._folder.parent} has "
          f"{free / 1e9:.1f} GB free; set TMPDIR to a larger disk or save the clips with numpy.save"
        )
      with archive.open(member) as stream, tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
        shutil.copyfileobj(stream, file, 1 << 20)
      return Path(file.name)

  def close(self) -> None:
    """Removes the folder."""
    if self._folder is not None:
      shutil.rmtree(self._folder, ignore_errors=True)


def open_array_file(path: Path, name: str, options: ClipOptions, *, scratch: Scratch, what: str) -> Reader:
  """Opens an array of clips [N, T, H, W, C], of one clip [T, H, W, C], or a `samples.npz` [N, l, T, H, W, C].

  Only the requested clips are read, except that an array of several clips in a .npz file is unpacked once, because a
  member of an archive cannot be memory-mapped. `name` and `what` are the file and the flag in messages.

  Raises:
    UnusableFileError: if the file is damaged, its clips are too short, or no array qualifies.
    UserError: if the file might be misread: its axes are ambiguous, or its dtype is neither integer nor float.
  """
  with _damaged_files():
    header, member, is_samples = _find_array(path)
  _check_header(header, name, what)
  layout = "THWC" if is_samples else clip_layout(header.shape, name=name, what=what)
  if is_samples and header.shape[-1] not in _CHANNELS:
    raise UnusableFileError(f"samples {header.shape} are not [N, l, T, H, W, C]")
  *lead, _, _, _, _ = header.shape
  sizes = dict(zip(layout, header.shape[-4:], strict=True))
  wanted = options.wanted(sizes["T"])
  with _damaged_files():
    load = _loader(path, member, header, scratch)
    load()  # A truncated file is an error now and not in the middle of a pass.

  def read(index: int) -> np.ndarray:
    clip = load()[np.unravel_index(index, lead)] if lead else load()
    clip = clip.transpose([layout.index(axis) for axis in "THWC"])
    return np.array(clip[wanted.start : wanted.stop : wanted.step])

  return Reader(
    names=[f"{name}[{', '.join(map(str, place))}]" for place in np.ndindex(*lead)] if lead else [name],
    shape=(len(wanted), *options.frame_size(sizes["H"], sizes["W"])),
    read=read,
    read_errors=_DAMAGED_ARRAY_ERRORS,
    is_float=header.dtype.kind == "f",
    layout=f"{', '.join(layout)} of {header.dtype}",
    is_samples=is_samples,
  )


def clip_layout(shape: Sequence[int], *, name: str, what: str) -> str:
  """The order of the last four axes of an array of clips: 'THWC' (if the last axis is 1 or 3), 'TCHW' or 'CTHW'.

  Raises:
    UserError: if none or two axes can be C.
  """
  clip = tuple(shape[-4:])
  if clip[3] in _CHANNELS:
    return "THWC"
  found = [axis for axis in (0, 1) if clip[axis] in _CHANNELS]
  if len(found) == 1:
    return ("CTHW", "TCHW")[found[0]]
  reason = "none of its axes can be channels" if not found else "two of its axes could be channels"
  raise UserError(
    f"{what}: array {name} has shape {tuple(shape)}: {reason}, which are 1 or 3; save it as [N, T, H, W, C]"
  )


@contextlib.contextmanager
def _damaged_files() -> Generator[None, None, None]:
  try:
    yield
  except _DAMAGED_ARRAY_ERRORS as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise UnusableFileError(f"damaged: {reason[:_MAX_REASON_LENGTH]}") from error


def _find_array(path: Path) -> tuple[_Header, str, bool]:
  """The header of the array of clips, its member in a .npz file or '', and whether the file is a samples.npz."""
  if path.suffix.lower() == ".npy":
    with path.open("rb") as file:
      return _read_header(file), "", False
  headers = {}
  with zipfile.ZipFile(path) as archive:
    for member in archive.namelist():
      if member.endswith(".npy"):
        with archive.open(member) as stream:
          headers[member.removesuffix(".npy")] = _read_header(stream)
  objects = [key for key, header in headers.items() if header.dtype.hasobject]
  if objects and len(objects) == len(headers):
    raise UnusableFileError(f"holds only Python objects ({', '.join(objects)}), which are never unpickled")
  headers = {key: header for key, header in headers.items() if key not in objects}
  num_axes = {key: len(header.shape) for key, header in headers.items()}
  is_samples = (num_axes.get("conditioning"), num_axes.get("samples")) == (5, 6)
  key = "samples" if is_samples else _choose(headers)
  return headers[key], f"{key}.npy", is_samples


def _choose(headers: Mapping[str, _Header]) -> str:
  # Next to an array of more axes, a single candidate may be something else, such as conditioning frames.
  has_more_axes = any(len(header.shape) > 5 for header in headers.values())
  for num_axes in (5, 4):
    keys = [key for key, header in headers.items() if len(header.shape) == num_axes]
    preferred = [key for key in _PREFERRED_KEYS if key in keys]
    if preferred:
      return preferred[0]
    if len(keys) == 1 and not has_more_axes:
      return keys[0]
    if keys:
      break
  held = ", ".join(f"{key} {list(header.shape)}" for key, header in headers.items()) or "nothing"
  raise UnusableFileError(
    f"holds {held}, and not one array [N, T, H, W, C]; give that array one of the names {', '.join(_PREFERRED_KEYS)}"
  )


def _read_header(stream: IO[bytes]) -> _Header:
  version = np.lib.format.read_magic(stream)
  if version not in _HEADER_READERS:
    raise ValueError(f"unknown .npy version {version}")
  with _PARSING:
    shape, _, dtype = _HEADER_READERS[version](stream)
  if min(shape, default=0) < 0:
    raise ValueError(f"impossible shape {shape}")
  return _Header(shape, dtype)


def _check_header(header: _Header, name: str, what: str) -> None:
  shape, dtype = header
  if dtype.hasobject:
    raise UnusableFileError("holds Python objects, which are never unpickled; save clips as a plain uint8 array")
  if not 4 <= len(shape) <= 6:
    raise UnusableFileError(f"shape {shape} is not [N, T, H, W, C]")
  if math.prod(shape) == 0:
    raise UnusableFileError(f"empty: shape {shape}")
  if dtype.kind not in "iuf":
    raise UserError(
      f"{what}: array {name} is of type {dtype}; save clips as uint8 of 0..255, or as floats with their range"
    )


def _loader(path: Path, member: str, header: _Header, scratch: Scratch) -> Callable[[], np.ndarray]:
  """Returns a function that loads the array; only the indexed part of a mapped array is read."""
  if not member:
    _check_size(header, path.stat().st_size)
    return functools.partial(_load_mapped, path)
  with zipfile.ZipFile(path) as archive:
    _check_size(header, archive.getinfo(member).file_size)
    if len(header.shape) > 4:
      return functools.partial(_load_mapped, scratch.unpack(archive, member, header.num_bytes))
  return functools.partial(_load_member, path, member)


def _check_size(header: _Header, available: int) -> None:
  # Before memory is allocated for a damaged header.
  if header.num_bytes > available:
    raise ValueError("fewer values than its header says")


def _load_mapped(path: Path) -> np.ndarray:
  # A mapping keeps its file open, and a folder can hold thousands of files: each read makes a new one.
  with _PARSING:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _load_member(path: Path, member: str) -> np.ndarray:
  with zipfile.ZipFile(path) as archive:
    data = archive.read(member)
  with _PARSING:
    return np.load(io.BytesIO(data), allow_pickle=False)
