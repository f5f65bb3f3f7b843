"""Resamples a video in time, by the times of its frames instead of their indices."""

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

PAUSE = Fraction(1, 4)
"""Time between two frames in seconds above which the first of them stands still, as in slides and GIFs."""

MAX_PAUSE = 60
"""Longest time between two frames in seconds: longer ones are damage, and repeated frames would fill the disk."""

ALMOST_ZERO = Fraction(1, 100)
"""Stated durations in seconds below which a frame lasts as long as usual."""


class TimingError(ValueError):
  """The times of the frames are unknown or damaged."""


class Timed(NamedTuple, Generic[T]):
  """A frame of a video, and when it is shown."""

  frame: T
  time: Fraction | None = None
  """Seconds from any origin; None if it is unknown."""
  duration: Fraction | None = None
  """Seconds until the next frame; None if it is unknown."""
  fps: float = 0.0
  """Frames per second of the video; 0 if it is unknown."""


def resample(frames: Iterable[Timed[T]], *, fps: float) -> Iterator[tuple[int, T]]:
  """Yields (index, frame) of what is shown 0, 1 / fps, 2 / fps, ... seconds after the first frame.

  That is the frame with the nearest time, except that a frame before a `PAUSE` is repeated until the pause ends. The
  result lasts as long as the video. A frame without a time, or whose time runs backwards, follows the one before it at
  the rate of the video.

  Needs two frames of `frames` at a time. Raises TimingError if such a rate is unknown, or a pause exceeds `MAX_PAUSE`.
  """
  period, count = 1 / _fraction(fps), 0
  for (index, (time, frame)), (_, (following, successor)) in itertools.pairwise(enumerate(_complete(frames, period))):
    gap = following - time
    is_motion = successor is not None and gap <= PAUSE
    while count * period < following - (gap if is_motion else min(gap, period)) / 2:
      yield index, frame
      count += 1


def _complete(frames: Iterable[Timed[T]], period: Fraction) -> Iterator[tuple[Fraction, Any]]:
  """Yields (seconds since the first frame, ascending; frame), and at last (end of the video, None)."""
  origin = time = None
  gap = length = step = Fraction(0)  # 0 is unknown.
  for index, (frame, shown, duration, fps) in enumerate(frames):
    length = duration if duration is not None and 0 < duration <= MAX_PAUSE else Fraction(0)
    step = 1 / _fraction(fps) if fps > 1e-3 else Fraction(0)
    expected = Fraction(0) if time is None else time + step
    if origin is None and shown is not None:
      origin = shown - expected
    now = expected if shown is None or origin is None else shown - origin
    if time is not None:
      if shown is None or now < time:
        if not step:
          raise TimingError("its frame rate is unknown, which --fps needs; pass --source_fps")
        now = expected
      if (gap := now - time) > MAX_PAUSE:
        raise TimingError(f"{float(gap):.0f} s between frames {index - 1} and {index}, at most {MAX_PAUSE} are valid")
    time = now
    yield time, frame
  if time is not None:
    if length < ALMOST_ZERO:  # Some containers state it for the last of frames at irregular times.
      length = max(length, min((known for known in (gap, step) if known), default=period))
    yield time + length, None


def _fraction(fps: float) -> Fraction:
  # Containers store 30000 / 1001, which floats round.
  return Fraction(fps).limit_denominator(100_000)
