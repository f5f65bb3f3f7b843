"""A set of clips with random access; only the requested clips are in memory."""

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from absl import logging

from vidgen_jax.data.decode import UnreadableVideoError
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.arrays import Scratch
from vidgen_jax.scores.clip_sets.reader import Clip, ClipOptions
from vidgen_jax.scores.clip_sets.values import ValueRange
from vidgen_jax.scores.clip_sets.videos import frame_array

NUM_THREADS = min(8, os.cpu_count() or 1)
"""Number of threads of `ordered_map`. Decoding and resizing release Python's lock."""

_PROBES = 16  # number of clips from whose values the range of a set of floats is inferred

_AXES = {"lengths": (slice(0, 1), "frames", "--num_frames"), "sizes": (slice(1, 3), "(height x width)", "--resolution")}

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


def _draw(count: int, options: ClipOptions) -> list[int]:
  """Indices of the clips to use, ascending."""
  if not 0 < options.max_clips < count:
    return list(range(count))
  generator = np.random.default_rng(options.seed)
  return sorted(generator.choice(count, options.max_clips, replace=False).tolist())


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
    value_range: range of the stored values.
    options: the window that is cut from every clip.
  """

  def __init__(
    self,
    name: str,
    clips: Sequence[Clip],
    options: ClipOptions,
    *,
    what: str,
    labels: Sequence[int] | None = None,
    class_names: tuple[str, ...] = (),
    skipped: Sequence[tuple[str, str]] = (),
    scratch: Scratch | None = None,
  ):
    """Checks the shapes of all clips and the values of some.

    `labels` has an entry for each clip, `scratch` contains unpacked arrays, and `what` is the flag of the set in
    messages. Raises UserError if there are no clips, their shapes differ, or values are wrong.
    """
    if not clips:
      reason = f": skipped {len(skipped)}, the first {': '.join(skipped[0])}" if skipped else ""
      raise UserError(f"{what}={name} holds no usable clip{reason}")
    for layout in sorted({clip.layout for clip in clips if clip.layout}):
      logging.info("%s=%s: the axes of a clip are %s", what, name, layout)  # Only the axes of an array are guessed.
    self.name, self.class_names, self.skipped = name, class_names, tuple(skipped)
    drawn = _draw(len(clips), options)
    if len(drawn) < len(clips):
      seed = options.seed
      logging.info("%s=%s: drew %d of %d clips at random, seed %d", what, name, len(drawn), len(clips), seed)
    self._clips, self.options = [clips[index] for index in drawn], options
    self._scratch, self._what = scratch, what
    self.clip_names = [clip.name for clip in self._clips]
    self.labels = None if labels is None else np.asarray(labels, np.int32)[drawn]
    for index, clip in enumerate(self._clips):
      self._check_shape(index, clip.shape, self._clips[0].shape)
    floats = np.flatnonzero([clip.is_float for clip in self._clips])
    if options.value_range != "auto" and not len(floats):
      logging.warning("%s_range=%s has no effect: %s=%s holds no floats", what, options.value_range, what, name)
    if len(floats) > _PROBES:
      floats = floats[np.linspace(0, len(floats) - 1, _PROBES).round().astype(int)]
    probes = ((self.clip_names[index], self._read_stored(index)) for index in floats)
    self.value_range = ValueRange(options.value_range, probes, what=what)
    self._digests: list[bytes] = [b""] * len(self)  # of the clips that were read
    self._brightest = np.full(len(self), -1)  # largest value of each integer clip, 0 for floats, -1 before it is read
    self.clip_shape: tuple[int, ...] = self._read(0).shape
    # A mistake that shows in the last clip is reported now and not at the end of a pass.
    self[-1]

  def __len__(self) -> int:
    return len(self.clip_names)

  def __getitem__(self, index: int) -> np.ndarray:
    index = range(len(self))[index]
    clip = self._read(index)
    self._check_shape(index, clip.shape, self.clip_shape)
    return clip

  def __enter__(self) -> "ClipSet":
    return self

  def __exit__(self, *exc_info: object) -> None:
    if self._scratch is not None:
      self._scratch.close()

  def batches(self, batch_size: int, *, indices: Sequence[int] | np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Reads clips (by their indices; None for all) with a few threads, at most about two batches ahead.

    Yields:
      uint8[B, T, H, W, C]; the last batch can be smaller.

    Raises:
      UserError: if a clip cannot be read or its values are wrong.
    """
    order = range(len(self)) if indices is None else indices
    with contextlib.closing(ordered_map(self.__getitem__, order, ahead=max(batch_size, NUM_THREADS))) as clips:
      for start in range(0, len(order), batch_size):
        batch = np.empty((min(batch_size, len(order) - start), *self.clip_shape), np.uint8)
        for row in batch:
          row[...] = next(clips)
        yield batch
    # One dark clip proves nothing, so all clips must have been read. An all-black set is accepted.
    if self._brightest.min() >= 0 and self._brightest.max() == 1:
      raise UserError(
        f"{self._what}: values 0 and 1 only: [0, 1] floats cast to uint8? Multiply them by 255 before the cast"
      )

  def digests(self) -> list[bytes]:
    """A hash of each clip's decoded window; reads the clips that were not read before."""
    missing = [index for index, digest in enumerate(self._digests) if not digest]
    for _ in self.batches(NUM_THREADS, indices=missing) if missing else ():
      pass
    return self._digests

  @property
  def frame_rates(self) -> tuple[float, ...]:
    """Distinct known frame rates of the files, ascending, in frames per second."""
    return tuple(sorted({round(clip.fps, 3) for clip in self._clips if clip.fps}))

  @property
  def facts(self) -> dict[str, Any]:
    """What scores record about the set, as JSON values; the content only after all clips were read."""
    known = b"".join(sorted(self._digests)) if all(self._digests) else b""
    floats = {"value_range": self.value_range.name} if any(clip.is_float for clip in self._clips) else {}
    return {
      "source": self.name,
      "clips": len(self),
      "skipped": len(self.skipped),
      "window": self.options.text,
      "frame_stride": self.options.frame_stride,
      "encoding": sorted({clip.encoding for clip in self._clips}),
      "fps": list(self.frame_rates),
      **floats,
      "content": hashlib.sha256(known).hexdigest()[:12] if known else None,
    }

  def _read_stored(self, index: int) -> np.ndarray:
    try:
      return self._clips[index].read()
    except (UnreadableVideoError, OSError, ValueError) as error:
      name = self.clip_names[index]
      raise UserError(f"{self._what}: {name} changed while it was being read: {error}; start again") from error

  def _read(self, index: int) -> np.ndarray:
    stored = self._read_stored(index)
    clip = self.value_range.to_uint8(stored, self.clip_names[index])
    self._brightest[index] = 0 if stored.dtype.kind == "f" else clip.max()
    clip = frame_array(clip, self.options)
    digest, known = hashlib.sha256(clip.tobytes()).digest(), self._digests[index]
    if known not in (b"", digest):  # Scores, and features in a cache, would describe a mixture of both contents.
      raise UserError(f"{self._what}: {self.clip_names[index]} changed while it was being read; start again")
    self._digests[index] = digest
    return clip

  def _check_shape(self, index: int, shape: Sequence[int | None], first: Sequence[int | None]) -> None:
    for kind, (axes, unit, flag) in _AXES.items():
      if shape[axes] != first[axes]:
        sizes = ["x".join(map(str, each[axes])) for each in (first, shape)]
        raise UserError(
          f"{self._what}={self.name} mixes {kind}: {self.clip_names[0]} has {sizes[0]} {unit}, "
          f"{self.clip_names[index]} has {sizes[1]} {unit}; make them equal with {flag}=N"
        )
