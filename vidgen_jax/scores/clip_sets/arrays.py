"""Clips in .npy and .npz files. Nothing is unpickled."""

import contextlib
import functools
import io
import lzma
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
from typing import IO

import numpy as np

from vidgen_jax.data.decode import UnreadableVideoError, reason_of
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.reader import Clip, ClipOptions

# Names of the array to read from a .npz file with several candidates.
_PREFERRED_KEYS = ("video", "videos", "samples")

_CHANNELS = (1, 3)
DAMAGED_ARRAY_ERRORS = (
  *(OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, OverflowError, RuntimeError),
  *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tokenize.TokenError),
)
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MAX_REASON_LENGTH = 160

# NumPy parses a header as a Python literal. In Python 3.11, threads that do so at the same time disturb each other
# (SystemError: "AST constructor recursion depth mismatch").
_PARSING = threading.Lock()


class Scratch:
  """Temporary folder for unpacked arrays. It is removed by `close`, or when the object or the process ends."""

  def __init__(self):
    self._folder = Path(tempfile.mkdtemp(prefix="vidgen_clips_"))
    self._lock = threading.Lock()
    self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

  def unpack(self, archive: zipfile.ZipFile, member: str) -> Path:
    """Unpacks a member of an archive, whose checksum is verified; UserError if there is too little free space."""
    with self._lock:
      needed, free = archive.getinfo(member).file_size, shutil.disk_usage(self._folder).free
      if free < needed:
        raise UserError(
          f"{archive.filename} needs {needed / 1e9:.1f} GB to be unpacked and {self._folder.parent} has "
          f"{free / 1e9:.1f} GB free; set TMPDIR to a larger disk or save the clips with numpy.save"
        )
      with archive.open(member) as stream, tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
        shutil.copyfileobj(stream, file, 1 << 20)
      return Path(file.name)


def open_array_file(path: Path, name: str, options: ClipOptions, *, scratch: Scratch, what: str) -> list[Clip]:
  """Opens an array of clips [N, T, H, W, C], of one clip [T, H, W, C], or a `samples.npz` [N, l, T, H, W, C].

  Only the requested clips are read, except that an array of several clips in a .npz file is unpacked once, because a
  member of an archive cannot be memory-mapped. `name` and `what` are the file and the flag in messages.

  Raises:
    UnreadableVideoError: if the file is damaged, its clips are too short, or no array qualifies.
    UserError: if the file might be misread: its axes are ambiguous, or its dtype is neither integer nor float.
  """
  with _damaged_files():
    header, member = _find_array(path)
  shape, dtype = header.shape, header.dtype
  if not 4 <= len(shape) <= 6:
    raise UnreadableVideoError(f"shape {shape} is not [N, T, H, W, C]")
  if not header.size:
    raise UnreadableVideoError(f"empty: shape {shape}")
  if dtype.kind not in "iuf":
    raise UserError(
      f"{what}: array {name} is of type {dtype}; save clips as uint8 of 0..255, or as floats with their range"
    )
  layout = clip_layout(shape, name=name, what=what)
  sizes = dict(zip(layout, shape[-4:], strict=True))
  num_frames = len(options.wanted(sizes["T"], name))
  with _damaged_files():
    load = _loader(path, member, header, scratch)
    load()  # A truncated file is an error now and not in the middle of a pass.

  def clip_name(place: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, place))}]" if place else name

  def read(place: tuple[int, ...]) -> np.ndarray:
    wanted = options.wanted(sizes["T"], clip_name(place))
    with _damaged_files():
      clip = load()[place].transpose([layout.index(axis) for axis in "THWC"])
      return np.array(clip[wanted.start : wanted.stop : wanted.step])

  return [
    Clip(
      name=clip_name(place),
      shape=(num_frames, *options.frame_size(sizes["H"], sizes["W"])),
      read=functools.partial(read, place),
      is_float=dtype.kind == "f",
      layout=f"{', '.join(layout)} of {dtype}",
      encoding=f"{dtype} array",
    )
    for place in np.ndindex(*shape[:-4])
  ]


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
  except DAMAGED_ARRAY_ERRORS as error:
    raise UnreadableVideoError(f"damaged: {reason_of(error)[:_MAX_REASON_LENGTH]}") from error


def _find_array(path: Path) -> tuple[np.ndarray, str]:
  """The header of the array of clips, and its member in a .npz file or ''."""
  headers = {}
  if path.suffix.lower() == ".npy":
    with path.open("rb") as file:
      headers[""] = _read_header(file)
  else:
    with zipfile.ZipFile(path) as archive:
      for member in archive.namelist():
        if member.endswith(".npy"):
          with archive.open(member) as stream:
            headers[member.removesuffix(".npy")] = _read_header(stream)
  plain = {key: header for key, header in headers.items() if not header.dtype.hasobject}
  if headers and not plain:
    raise UnreadableVideoError("holds Python objects, which are never unpickled; save clips as a plain uint8 array")
  if "" in plain:
    return plain[""], ""
  key = _choose({key: header.shape for key, header in plain.items()})
  return plain[key], f"{key}.npy"


def _choose(shapes: Mapping[str, Sequence[int]]) -> str:
  num_axes = {key: len(shape) for key, shape in shapes.items()}
  if (num_axes.get("conditioning"), num_axes.get("samples")) == (5, 6):  # a `samples.npz`
    return "samples"
  keys = [key for key in shapes if num_axes[key] == 5] or [key for key in shapes if num_axes[key] == 4]
  if preferred := [key for key in _PREFERRED_KEYS if key in keys]:
    return preferred[0]
  # Next to an array of more axes, a single candidate may be something else, such as conditioning frames.
  if len(keys) == 1 and max(num_axes.values()) <= 5:
    return keys[0]
  if "protocol" in shapes:
    raise UnreadableVideoError("holds features, not clips; only --real may be a file of `vidgen features --stats`")
  held = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items()) or "nothing"
  raise UnreadableVideoError(
    f"holds {held}, and not one array [N, T, H, W, C]; give that array one of the names {', '.join(_PREFERRED_KEYS)}"
  )


def _read_header(stream: IO[bytes]) -> np.ndarray:
  """An array of the stored shape and dtype that takes the memory of one value."""
  version = np.lib.format.read_magic(stream)
  if version not in _HEADER_READERS:
    raise ValueError(f"unknown .npy version {version}")
  with _PARSING:
    shape, _, dtype = _HEADER_READERS[version](stream)
  return np.broadcast_to(np.empty((), dtype), shape)


def _loader(path: Path, member: str, header: np.ndarray, scratch: Scratch) -> Callable[[], np.ndarray]:
  """Returns a function that loads the array; only the indexed part of a mapped array is read."""
  with zipfile.ZipFile(path) if member else contextlib.nullcontext() as archive:
    # Before memory is allocated for a damaged header.
    if header.nbytes > (archive.getinfo(member).file_size if archive else path.stat().st_size):
      raise ValueError("fewer values than its header says")
    if archive and header.ndim > 4:
      path, member = scratch.unpack(archive, member), ""
  return functools.partial(_load, path, member)


def _load(path: Path, member: str) -> np.ndarray:
  if not member:
    # A mapping keeps its file open, and a folder can hold thousands of files: each read makes a new one.
    with _PARSING:
      return np.load(path, mmap_mode="r", allow_pickle=False)
  with zipfile.ZipFile(path) as archive:
    data = archive.read(member)
  with _PARSING:
    return np.load(io.BytesIO(data), allow_pickle=False)
