"""Converts the numbers of arrays to 0..255 and detects the most common mistakes.

Values of [0, 1] that are taken for 0..255 give a black clip, for which every metric still returns a number.
"""

from collections.abc import Iterable

import numpy as np
from absl import logging

from vidgen_jax.errors import UserError

# Rounding errors of floats: less than half a level, so that such values are rounded to the end of the range.
_TOLERANCE = 1e-3

# Floats of 0..255 without brighter values are more likely a mistake, such as x + 1 for x in [-1, 1].
_LEAST_MAXIMUM = 8.0

_ENDS = {"255": (0.0, 255.0), "1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}


class ValueRange:
  """Converts clips of one set to uint8.

  Args:
    chosen: '255', '1', '-1..1', or 'auto' to infer the range of floats.
    probes: names and values of some clips of floats, which are read for 'auto' only.
    what: flag of the set, such as `--real`, whose range is set by `--real_range`.

  Attributes:
    name: '255', '1' or '-1..1': the given or inferred range; '255' for integers.

  Raises:
    UserError: if the probes fit no range.
  """

  def __init__(self, chosen: str, probes: Iterable[tuple[str, np.ndarray]], *, what: str):
    self._what = what
    self._given = chosen != "auto"
    self.name = chosen if self._given else self._infer([self._ends(clip, name) for name, clip in probes])

  def to_uint8(self, clip: np.ndarray, name: str) -> np.ndarray:
    """Converts integers or floats to uint8 on 0..255, rounded as by `vidgen_jax.ops.video.to_uint8`.

    Raises:
      UserError: if the values are outside of the set's range or not finite.
    """
    if clip.dtype == np.uint8:
      return clip
    if clip.dtype.kind in "iu":
      least, most = int(clip.min()), int(clip.max())
      if least < 0 or most > 255:
        raise UserError(f"{self._what}: clip {name} has integers of {least}..{most}; they must be 0..255")
      return clip.astype(np.uint8)
    self._check(*self._ends(clip, name), name)
    values = clip.astype(np.float32)
    if self.name == "-1..1":
      return np.rint((values + np.float32(1.0)) * np.float32(127.5)).astype(np.uint8)
    return np.rint(values * np.float32(255.0 if self.name == "1" else 1.0)).astype(np.uint8)

  def _infer(self, ends: list[tuple[float, float]]) -> str:
    if not ends:
      return "255"
    least, most = min(low for low, _ in ends), max(high for _, high in ends)
    fitting = _fitting(least, most)
    if fitting is None:
      raise UserError(
        f"{self._what}: floats of {least:g}..{most:g} are neither 0..255 nor 0..1 nor -1..1; "
        f"scale or clip them, or set {self._what}_range to 255, 1 or -1..1"
      )
    read_as = "{:g}..{:g}".format(*_ENDS[fitting])
    logging.info("%s: floats, %g..%g in %d clips, are read as %s", self._what, least, most, len(ends), read_as)
    return fitting

  def _check(self, least: float, most: float, name: str) -> None:
    if self.name == "255" and not self._given and least >= -_TOLERANCE and _TOLERANCE < most <= 1 + _TOLERANCE:
      raise UserError(
        f"{self._what}: clip {name} is in 0..1 and other clips in 0..255; bring all clips to one range, "
        f"or confirm with {self._what}_range=255 that this clip is that dark"
      )
    low, high = _ENDS[self.name]
    if least >= low - _TOLERANCE and most <= high + _TOLERANCE:
      return
    origin = f"{self._what}_range={self.name} was given" if self._given else f"other clips are in {low:g}..{high:g}"
    fitting = _fitting(least, most)
    remedy = f"set {self._what}_range={fitting}" if fitting else "scale or clip the values"
    raise UserError(f"{self._what}: clip {name} has floats of {least:g}..{most:g}, but {origin}; {remedy}")

  def _ends(self, clip: np.ndarray, name: str) -> tuple[float, float]:
    least, most = float(clip.min()), float(clip.max())
    # NaN anywhere makes both NaN.
    if not np.isfinite([least, most]).all():
      raise UserError(
        f"{self._what}: clip {name} has NaN or infinite values; leave it out or fix the program that wrote it"
      )
    return least, most


def _fitting(least: float, most: float) -> str | None:
  if least < -_TOLERANCE:
    return "-1..1" if least >= -1 - _TOLERANCE and most <= 1 + _TOLERANCE else None
  if most <= 1 + _TOLERANCE:
    return "1"
  return "255" if _LEAST_MAXIMUM < most <= 255 + _TOLERANCE else None
