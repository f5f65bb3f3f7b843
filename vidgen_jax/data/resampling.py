"""Times of the frames of a video: how regular they are, and resampling by times instead of indices."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

PAUSE = Fraction(1, 4)
"""Time between two frames in seconds above which the first of them stands still, as in slides and GIFs."""

MAX_PAUSE = 60
"""Longest time between two frames in seconds: longer ones are damage, and repeated frames would fill the disk."""

ALMOST_ZERO = Fraction(1, 100)
"""Stated durations in seconds below which a frame lasts as long as usual."""

MAX_BASE_RATE = 65
"""Highest base rate in frames per second of GIFs and other animated images, see `base_period`."""


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


def irregularity(times: Sequence[Fraction | None], *, fps: float, tick: Fraction) -> tuple[str, str]:
  """How the times of the frames, in seconds, differ from a constant rate, apart from rounding to a multiple of `tick`.

  `fps` is the stated rate, 0 if unknown.

  Returns:
    - Range of the gaps if the rate is variable, else ''. It is if a gap differs from the median by more than half of
      it, or a frame is half a mean gap away from where it would be at a constant rate.
    - Jump of the times, which is damage: backwards, or by more than `MAX_PAUSE`; '' for none.
  """
  indices = [index for index, time in enumerate(times) if time is not None]
  if len(indices) < 3:
    return "", ""
  known = np.array([float(times[index] or 0) for index in indices])
  if len(known) < len(times):  # MPEG states the times of some frames only.
    known = np.interp(np.arange(indices[0], indices[-1] + 1), indices, known)
  gaps = np.diff(known)
  low, high = gaps.min(), gaps.max()
  if low < 0 or high > MAX_PAUSE:
    first = np.flatnonzero((gaps < 0) | (gaps > MAX_PAUSE))[0]
    return "", f"times jump by {gaps[first]:.3g} s after frame {indices[0] + first}"
  if high - low < 1e-6:  # The usual case, which must not slow down the reading of short videos.
    return "", ""
  # A stated period of whole ticks is not rounded.
  period = 1 / (fps * float(tick)) if fps > 0 and tick else 1.0
  slack = 0.0 if abs(period - round(period)) < 1e-3 else float(tick)
  mean, median = gaps.mean(), np.median(gaps)
  line = known[0] + mean * np.arange(len(known))
  limit = 1.001 / 2
  is_variable = np.abs(gaps - median).max() > max(limit * median, 1.001 * slack)
  is_variable |= np.abs(known - line).max() > limit * mean + slack
  return (f"{1000 * low:.0f} to {1000 * high:.0f} ms between frames" if is_variable else ""), ""


def base_period(durations: Sequence[Fraction], *, tick: Fraction) -> Fraction | None:
  """Period in seconds of which all durations of frames are multiples, exactly or but for rounding to `tick`.

  None if the durations are equal, or have no such period of a plausible rate: at most `MAX_BASE_RATE`, and at least a
  third of the shortest duration.
  """
  shortest = min(durations)
  if max(durations) > MAX_PAUSE:
    return None
  scale = math.lcm(*(duration.denominator for duration in durations))
  period = Fraction(math.gcd(*(int(duration * scale) for duration in durations)), scale)
  if period * MAX_BASE_RATE < 1 or 3 * period < shortest:
    # Sums of rounded periods: 1/12 s is 8 hundredths, twice that 16 or 17.
    low, high = Fraction(0), Fraction(MAX_PAUSE)
    for duration in sorted(set(durations)):
      count = max(1, round(2 * duration / (low + high))) if low else 1
      low, high = max(low, (duration - tick) / count), min(high, (duration + tick) / count)
      if low > high:
        return None
    period = (low + high) / 2
    period = sum(durations, Fraction(0)) / sum(max(1, round(duration / period)) for duration in durations)
  if period * MAX_BASE_RATE < 1 or all(round(duration / period) == 1 for duration in durations):
    return None
  return period
