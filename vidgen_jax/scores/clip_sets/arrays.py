"""Clips in .npy and .npz files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets import npy
from vidgen_jax.scores.clip_sets.framing import framed_size
from vidgen_jax.scores.clip_sets.npy import Header, MappedArray, PackedArray, Scratch
from vidgen_jax.scores.clip_sets.options import ClipOptions
from vidgen_jax.scores.clip_sets.readers import ClipShape, Reader, UnusableFileError, too_short

LAYOUTS = ("CTHW", "TCHW", "THWC")
"""Orders of a clip's axes that are told apart."""

PREFERRED_KEYS = ("video", "videos", "samples")
"""Names of the array that is meant, where a .npz holds several that could be."""

_CHANNELS = (1, 3)
_CLIPS_AXES = 5
_SAMPLES_AXES = 6


def clip_layout(shape: Sequence[int], *, name: str, what: str) -> str:
  """The order of the last four axes of an array of clips.

  Args:
    shape: at least four long.
    name: of the file, for the message.
    what: the flag that names the set, for the message.

  Returns:
    One of `LAYOUTS`. A last axis of 1 or 3 is C.

  Raises:
    UserError: if none or two axes can be C.
  """
  clip = tuple(shape[-4:])
  if clip[3] in _CHANNELS:
    return "THWC"
  found = [axis for axis in (0, 1) if clip[axis] in _CHANNELS]
  if len(found) == 1:
    return LAYOUTS[found[0]]
  reason = "none of its axes can be channels" if not found else "two of its axes could be channels"
  raise UserError(
    f"{what}: array {name} has shape {tuple(shape)}: {reason}, which are 1 or 3; save it as [N, T, H, W, C]"
  )


def open_array_file(path: Path, name: str, options: ClipOptions, *, scratch: Scratch, what: str) -> Reader:
  """The clips of a file [N, T, H, W, C], the one of a file [T, H, W, C], or those of a `samples.npz`.

  Args:
    path: a .npy or .npz file.
    name: what messages call it.
    options: the window that is wanted.
    scratch: where a compressed array of many clips is unpacked to.
    what: the flag that names the set, for messages.

  Raises:
    UnusableFileError: if it is damaged, its clips are too short, or no array can be what is meant.
    UserError: if it is read wrongly as likely as not: its axes are ambiguous, or its values are no brightness.
  """
  if path.suffix.lower() == ".npy":
    return ArrayReader(npy.open_npy(path), name, options, what=what)
  headers = npy.npz_headers(path)
  if _is_samples(headers):
    return SamplesReader(npy.open_npz(path, "samples", scratch), name, options, what=what)
  return ArrayReader(npy.open_npz(path, _choose(headers), scratch), name, options, what=what)


class ArrayReader:
  """The clips of one array, of any layout.

  Args:
    array: of 5 axes, or of 4: one clip.
    name: of the file.
    options: the window that is wanted.
    what: the flag that names the set, for messages.
  """

  def __init__(self, array: MappedArray | PackedArray, name: str, options: ClipOptions, *, what: str):
    header = array.header
    _check_header(header, name, what)
    self.layout = clip_layout(header.shape, name=name, what=what)
    self.dtype = header.dtype
    self._array, self._name, self._what = array, name, what
    self._is_single = len(header.shape) < _CLIPS_AXES
    clip = dict(zip(self.layout, header.shape[-4:], strict=True))
    self._wanted = _window(clip["T"], options)
    self.shape = ClipShape(len(self._wanted), *framed_size(clip["H"], clip["W"], options))

  @property
  def is_float(self) -> bool:
    """Whether the values are floats."""
    return self.dtype.kind == "f"

  def __len__(self) -> int:
    return 1 if self._is_single else self._array.header.shape[0]

  def name(self, index: int) -> str:
    """The file, and the place in it where it holds several."""
    return self._name if self._is_single else f"{self._name}[{index}]"

  def read(self, index: int) -> np.ndarray:
    """The window of one clip, [T, h, w, c]; nothing else is read from the disk where the file allows it."""
    clips = _load(self._array, self._name, self._what)
    clip = clips if self._is_single else clips[index]
    clip = clip.transpose([self.layout.index(axis) for axis in "THWC"])
    return np.array(clip[self._wanted.start : self._wanted.stop : self._wanted.step])


class SamplesReader:
  """The clips of a `samples.npz`, whole ones with the conditioning frames in their places. Clip n l + j is sample j of n.

  Args:
    samples: [N, l, T, H, W, C].
    name: of the file.
    options: the window that is wanted.
    what: the flag that names the set, for messages.
  """

  layout = "THWC"

  def __init__(self, samples: MappedArray | PackedArray, name: str, options: ClipOptions, *, what: str):
    header = samples.header
    _check_header(header, name, what)
    _, self._per_clip, num_frames, height, width, channels = header.shape
    if channels not in _CHANNELS:
      raise UnusableFileError(f"samples {header.shape} are not [N, l, T, H, W, C]")
    self.dtype = header.dtype
    self._samples, self._name, self._what = samples, name, what
    self._wanted = _window(num_frames, options)
    self.shape = ClipShape(len(self._wanted), *framed_size(height, width, options))

  @property
  def is_float(self) -> bool:
    """Whether the values are floats."""
    return self.dtype.kind == "f"

  def __len__(self) -> int:
    return self._samples.header.shape[0] * self._per_clip

  def name(self, index: int) -> str:
    """The file, the clip and the sample."""
    clip, sample = divmod(index, self._per_clip)
    return f"{self._name}[{clip}, {sample}]"

  def read(self, index: int) -> np.ndarray:
    """The window of one clip, [T, h, w, c]."""
    video = _load(self._samples, self._name, self._what)[divmod(index, self._per_clip)]
    return np.array(video[self._wanted.start : self._wanted.stop : self._wanted.step])


def _is_samples(headers: Mapping[str, Header]) -> bool:
  axes = {key: len(headers[key].shape) for key in ("conditioning", "samples") if key in headers}
  return axes == {"conditioning": _CLIPS_AXES, "samples": _SAMPLES_AXES}


def _choose(headers: Mapping[str, Header]) -> str:
  """The key of the array of clips."""
  # Beside an array of more axes a lone one may be a part of what is meant, such as frames that were given.
  has_more_axes = any(len(header.shape) > _CLIPS_AXES for header in headers.values())
  for axes in (_CLIPS_AXES, _CLIPS_AXES - 1):
    keys = [key for key, header in headers.items() if len(header.shape) == axes]
    preferred = [key for key in PREFERRED_KEYS if key in keys]
    if preferred:
      return preferred[0]
    if len(keys) == 1 and not has_more_axes:
      return keys[0]
    if keys:
      break
  held = ", ".join(f"{key} {list(header.shape)}" for key, header in headers.items()) or "nothing"
  raise UnusableFileError(
    f"holds {held}, and not one array [N, T, H, W, C]; give that array one of the names {', '.join(PREFERRED_KEYS)}"
  )


def _check_header(header: Header, name: str, what: str) -> None:
  """Refuses what is no brightness, and no clip."""
  if not _CLIPS_AXES - 1 <= len(header.shape) <= _SAMPLES_AXES:
    raise UnusableFileError(f"shape {header.shape} is no [N, T, H, W, C]")
  if math.prod(header.shape) == 0:
    raise UnusableFileError(f"empty: shape {header.shape}")
  if header.dtype.kind not in "iuf":
    raise UserError(
      f"{what}: array {name} is of type {header.dtype}; save clips as uint8 of 0..255, or as floats with their range"
    )


def _window(length: int, options: ClipOptions) -> range:
  if length < options.needed_frames:
    raise too_short(length, options.needed_frames)
  return options.wanted(length)


def _load(array: MappedArray | PackedArray, name: str, what: str) -> np.ndarray:
  try:
    return array.load()
  except npy.DAMAGED_ARRAY_ERRORS as error:
    raise UserError(f"{what}: array {name} changed while it was being read: {error}; start again") from error
