"""A set of clips with random access; only the requested clips are in memory."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.arrays import Scratch
from vidgen_jax.scores.clip_sets.reader import ClipOptions, Reader
from vidgen_jax.scores.clip_sets.values import CastFloatCheck, ValueRange
from vidgen_jax.scores.clip_sets.videos import frame_array

NUM_THREADS = min(8, os.cpu_count() or 1)
"""Number of threads of `ordered_map`. Decoding and resizing release Python's lock."""

_PROBES = 16  # number of clips from whose values the range of a set of floats is inferred

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
  function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Generator[Result, None, None]:
  """`map` with `NUM_THREADS` threads that never works far ahead of its consumer.

  At most `ahead` results are in memory or being computed; an exception of `function` is raised in its turn.
  """
  pending: deque[Future] = deque()
  with ThreadPoolExecutor(min(NUM_THREADS, ahead)) as pool:
    try:
      for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= ahead:
          yield pending.popleft().result()
      while pending:
        yield pending.popleft().result()
    finally:
      for future in pending:
        future.cancel()


class ClipSet:
  """Clips of one shape. `clips[i]` is uint8[T, H, W, C], read and checked on demand; threads can share the set.

  As a context manager, it removes unpacked arrays on exit; otherwise they are removed with the object.

  Attributes:
    name: name that the user gave.
    clip_names: files, or positions within files, of all clips.
    clip_shape: (T, H, W, C) of every clip.
    labels: int32[N]; None without classes.
    class_names: sorted names of the labels; () without classes.
    skipped: (file, reason) of unusable files.
    value_range: range of the stored values: '255', '1' or '-1..1'.
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
    """Checks the shapes of all clips and the values of some; UserError if shapes differ or values are wrong.

    `labels` has an entry for each clip of the readers, `scratch` contains unpacked arrays, and `what` is the flag of
    the set in messages.
    """
    self.name, self.class_names, self.skipped = name, class_names, tuple(skipped)
    self._readers, self._options, self._scratch, self._what = tuple(readers), options, scratch, what
    self._ends = np.cumsum([len(reader.names) for reader in readers])
    self.clip_names = [name for reader in readers for name in reader.names][: options.max_clips or None]
    self.labels = None if labels is None else np.asarray(labels, np.int32)[: len(self)]
    self._check_shapes()
    self._values = ValueRange(options.value_range, what=what)
    self._values.infer((self.clip_names[index], self._read_raw(index)) for index in self._probes())
    self.value_range = self._values.name
    self._cast_check = CastFloatCheck(len(self), what=what)
    self.clip_shape: tuple[int, ...] = self._read(0).shape
    # A mistake that shows in the last clip is reported now and not at the end of a pass.
    self[len(self) - 1]

  def __len__(self) -> int:
    return len(self.clip_names)

  def __getitem__(self, index: int) -> np.ndarray:
    if not -len(self) <= index < len(self):
      raise IndexError(f"clip {index} of {len(self)}")
    index = int(index) % len(self)
    clip = self._read(index)
    if clip.shape != self.clip_shape:
      raise self._mixed("sizes", index, self.clip_shape[1:3], clip.shape[1:3])
    return clip

  def __enter__(self) -> "ClipSet":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.close()

  def close(self) -> None:
    """Removes unpacked arrays, whose clips cannot be read afterwards."""
    if self._scratch is not None:
      self._scratch.close()

  def batches(self, batch_size: int, *, indices: Sequence[int] | np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Reads clips (by their indices; None for all) with a few threads, at most about two batches ahead.

    Yields:
      uint8[B, T, H, W, C]; the last batch can be smaller.

    Raises:
      UserError: if a clip cannot be read or its values are wrong.
    """
    order = range(len(self)) if indices is None else [int(index) for index in indices]
    with contextlib.closing(ordered_map(self.__getitem__, order, ahead=max(batch_size, NUM_THREADS))) as clips:
      for start in range(0, len(order), batch_size):
        batch = np.empty((min(batch_size, len(order) - start), *self.clip_shape), np.uint8)
        for row in batch:
          row[...] = next(clips)
        yield batch
    self._cast_check.finish()

  def _read_raw(self, index: int) -> np.ndarray:
    place = int(np.searchsorted(self._ends, index, side="right"))
    reader = self._readers[place]
    try:
      return reader.read(index - int(self._ends[place]) + len(reader.names))
    except reader.read_errors as error:
      name = self.clip_names[index]
      raise UserError(f"{self._what}: {name} changed while it was being read: {error}; start again") from error

  def _read(self, index: int) -> np.ndarray:
    raw = self._read_raw(index)
    clip = self._values.to_uint8(raw, self.clip_names[index])
    # A dark clip of floats is no sign of a cast.
    self._cast_check.add(index, clip if raw.dtype.kind in "iu" else None)
    return frame_array(clip, self._options)

  def _probes(self) -> list[int]:
    """Indices of clips that are spread evenly over all clips of floats."""
    is_float = np.repeat([reader.is_float for reader in self._readers], [len(r.names) for r in self._readers])
    floats = np.flatnonzero(is_float[: len(self)])
    if len(floats) > _PROBES:
      floats = floats[np.linspace(0, len(floats) - 1, _PROBES).round().astype(int)]
    return floats.tolist()

  def _check_shapes(self) -> None:
    """Compares the shapes that are known before reading."""
    first = self._readers[0].shape
    for reader, end in zip(self._readers, self._ends, strict=True):
      shape, index = reader.shape, int(end) - len(reader.names)
      if shape[0] != first[0]:
        raise self._mixed("lengths", index, first[:1], shape[:1])
      if shape[1:] != first[1:]:
        raise self._mixed("sizes", index, first[1:], shape[1:])

  def _mixed(self, kind: str, index: int, first: Sequence[int | None], other: Sequence[int | None]) -> UserError:
    unit, remedy = ("frames", "--num_frames=N") if kind == "lengths" else ("(height x width)", "--resolution=N")
    examples = [
      f"{self.clip_names[i]} has {'x'.join(map(str, size))} {unit}" for i, size in ((0, first), (index, other))
    ]
    return UserError(f"{self._what}={self.name} mixes {kind}: {', '.join(examples)}; make them equal with {remedy}")
