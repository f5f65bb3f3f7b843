"""Clips with random access: nothing is held in memory but what is asked for."""

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.framing import frame_array
from vidgen_jax.scores.clip_sets.npy import Scratch
from vidgen_jax.scores.clip_sets.options import ClipOptions
from vidgen_jax.scores.clip_sets.readers import Reader
from vidgen_jax.scores.clip_sets.threads import NUM_THREADS, ordered_map
from vidgen_jax.scores.clip_sets.values import CastFloatCheck, ValueRange

_PROBES = 16
"""Clips whose values decide what a set of floats means."""


class ClipSet:
  """Clips of one shape. `clips[i]` is uint8[T, H, W, C], read and checked when it is asked for; threads may ask.

  It is a context manager: leaving it removes what was unpacked from compressed arrays, as does the end of the process.

  Args:
    name: what the user calls the set.
    readers: at least one clip.
    options: the window that is wanted.
    labels: int32, of every reader's clips; None if there are no classes.
    class_names: names of the labels.
    skipped: (file, reason) of files that cannot be used.
    scratch: where compressed arrays were unpacked to.
    what: the flag that names the set, for messages.

  Attributes:
    name: what the user calls the set.
    clip_shape: (T, H, W, C) of every clip.
    labels: int32[N]; None if there are no classes.
    class_names: names of the labels, sorted; () if there are none.
    skipped: (file, reason) of files that could not be used.

  Raises:
    UserError: if the shapes of the clips differ, or the values of some first ones are not what they should be.
  """

  def __init__(
    self,
    name: str,
    readers: Sequence[Reader],
    options: ClipOptions,
    *,
    labels: Sequence[int] | np.ndarray | None = None,
    class_names: tuple[str, ...] = (),
    skipped: Sequence[tuple[str, str]] = (),
    scratch: Scratch | None = None,
    what: str = "--real",
  ):
    self.name, self.class_names, self.skipped = name, class_names, tuple(skipped)
    self._readers, self._options, self._scratch, self._what = tuple(readers), options, scratch, what
    self._ends = np.cumsum([len(reader) for reader in readers])
    self._length = min(int(self._ends[-1]), options.max_clips or int(self._ends[-1]))
    self.labels = None if labels is None else np.asarray(labels, np.int32)[: self._length]
    self._check_shapes()
    self._values = ValueRange(options.value_range, what=what)
    self._decide_range()
    self._cast_check = CastFloatCheck(self._length, what=what)
    self.clip_shape: tuple[int, int, int, int] = self._read(0).shape
    # A mistake that shows in the last clip is told now and not at the end of a pass.
    self.__getitem__(self._length - 1)

  @property
  def value_range(self) -> str:
    """What the values of the files were taken for: '255', '1' or '-1..1'."""
    return self._values.name

  @property
  def clip_names(self) -> list[str]:
    """Files, or places within files, of all clips."""
    return [self._name(index) for index in range(self._length)]

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> np.ndarray:
    if not -self._length <= index < self._length:
      raise IndexError(f"clip {index} of {self._length}")
    index = int(index) % self._length
    clip = self._read(index)
    if clip.shape != self.clip_shape:
      raise self._mixed("sizes", 0, index, self.clip_shape[1:3], clip.shape[1:3], "--resolution=N")
    return clip

  def __enter__(self) -> "ClipSet":
    return self

  def __exit__(
    self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
  ) -> None:
    self.close()

  def close(self) -> None:
    """Removes what was unpacked; clips of compressed arrays cannot be read afterwards."""
    if self._scratch is not None:
      self._scratch.close()

  def batches(self, batch_size: int, *, indices: Sequence[int] | np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Reads clips with a few threads, at most about two batches ahead.

    Args:
      batch_size: B.
      indices: which clips, in that order; None for all.

    Yields:
      uint8[B, T, H, W, C]; the last may be shorter.

    Raises:
      ValueError: if `batch_size` is not positive.
      UserError: if a clip cannot be read or its values are not what they should be.
    """
    if batch_size < 1:
      raise ValueError(f"batches need batch_size >= 1, got {batch_size}")
    order = range(self._length) if indices is None else [int(index) for index in indices]
    return self._batches(batch_size, order)

  def _batches(self, batch_size: int, order: Sequence[int]) -> Iterator[np.ndarray]:
    with contextlib.closing(ordered_map(self.__getitem__, order, ahead=max(batch_size, NUM_THREADS))) as clips:
      for start in range(0, len(order), batch_size):
        batch = np.empty((min(batch_size, len(order) - start), *self.clip_shape), np.uint8)
        for place in range(len(batch)):
          batch[place] = next(clips)
        yield batch
    self._cast_check.finish()

  def _locate(self, index: int) -> tuple[Reader, int]:
    """The reader of a clip, and the clip's place in it."""
    place = int(np.searchsorted(self._ends, index, side="right"))
    reader = self._readers[place]
    return reader, index - int(self._ends[place]) + len(reader)

  def _name(self, index: int) -> str:
    reader, place = self._locate(index)
    return reader.name(place)

  def _raw(self, index: int) -> np.ndarray:
    reader, place = self._locate(index)
    return reader.read(place)

  def _read(self, index: int) -> np.ndarray:
    raw = self._raw(index)
    clip = self._values.to_uint8(raw, self._name(index))
    # Floats were brought to 0..255 here, so a dark one is no sign of a cast.
    self._cast_check.note(index, clip if raw.dtype.kind in "iu" else None)
    return frame_array(clip, self._options)

  def _decide_range(self) -> None:
    """Looks at clips that are spread evenly over those that are floats."""
    starts = self._ends - [len(reader) for reader in self._readers]
    floats = [
      np.arange(start, min(end, self._length))
      for reader, start, end in zip(self._readers, starts, self._ends, strict=True)
      if reader.is_float
    ]
    indices = np.concatenate(floats) if floats else np.zeros(0, int)
    if len(indices) > _PROBES:
      indices = indices[np.linspace(0, len(indices) - 1, _PROBES).round().astype(int)]
    self._values.decide((self._name(int(index)), self._raw(int(index))) for index in indices)

  def _check_shapes(self) -> None:
    """Compares what is known of the clips before they are read."""
    first = self._readers[0].shape
    for reader, end in zip(self._readers, self._ends, strict=True):
      shape, index = reader.shape, int(end) - len(reader)
      if shape.num_frames != first.num_frames:
        raise self._mixed("lengths", 0, index, (first.num_frames,), (shape.num_frames,), "--num_frames=N")
      if shape[1:] != first[1:]:
        raise self._mixed("sizes", 0, index, first[1:], shape[1:], "--resolution=N")

  def _mixed(
    self, kind: str, first: int, other: int, one: tuple[int, ...], another: tuple[int, ...], remedy: str
  ) -> UserError:
    unit = "frames" if kind == "lengths" else "(height x width)"
    examples = [
      f"{self._name(index)} has {'x'.join(map(str, size))} {unit}" for index, size in ((first, one), (other, another))
    ]
    return UserError(
      f"{self._what}={self.name} mixes {kind}: {examples[0]}, {examples[1]}; make them equal with {remedy}"
    )
