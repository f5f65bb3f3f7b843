"""Frames of a source of any format: upright, in RGB, with square pixels."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vidgen_jax.data.resampling import base_period

BACKGROUND = (128, 128, 128)
"""Colour behind transparent parts. Both white and black objects, the usual ones, are visible on grey."""

ORIENTATIONS = {
  Image.Transpose.FLIP_LEFT_RIGHT: "mirrored left to right",
  Image.Transpose.ROTATE_180: "rotated by 180 degrees",
  Image.Transpose.FLIP_TOP_BOTTOM: "mirrored top to bottom",
  Image.Transpose.TRANSPOSE: "transposed",
  Image.Transpose.ROTATE_270: "rotated clockwise",
  Image.Transpose.TRANSVERSE: "transposed and rotated by 180 degrees",
  Image.Transpose.ROTATE_90: "rotated counterclockwise",
}
"""How stored frames are made upright, as `Footage.conversions` says it; in the order of EXIF orientations 2 to 8."""


class UnreadableVideoError(Exception):
  """A file is not a usable video; the message is the reason that the manifest lists."""


@dataclasses.dataclass(kw_only=True)
class Footage:
  """Facts about a file that all of its frames share.

  Attributes:
    fps: mean frames per second; 0 if unknown.
    codec: codec, or format of an image, such as 'h264' or 'png'.
    promised: number of frames that the file says it shows; 0 if unknown.
    tick: resolution of the times in seconds; 0 if they are exact.
    conversions: how frames differ from the stored ones, by subject: 'orientation', 'cropping', 'sample_aspect_ratio'
      (W:H of the stored pixels), 'background' of transparent frames, 'stream', 'frames'. Grows while frames are
      converted.
  """

  fps: float
  codec: str
  promised: int = 0
  tick: Fraction = Fraction(0)
  conversions: dict[str, str] = dataclasses.field(default_factory=dict)


class Frame(NamedTuple):
  """A frame that is converted on demand.

  Attributes:
    size: (width, height) of the converted frame in pixels.
    image: converts the frame to mode 'RGB'; can raise UnreadableVideoError.
    footage: facts about the file.
    time: see `resampling.Timed`.
    duration: see `resampling.Timed`.
    is_damaged: whether the decoder concealed errors.
  """

  size: tuple[int, int]
  image: Callable[[], Image.Image]
  footage: Footage
  time: Fraction | None = None
  duration: Fraction | None = None
  is_damaged: bool = False


def same_size(images: Iterable[Any]) -> Iterator[Any]:
  """Yields objects with a 'size'; raises UnreadableVideoError if it changes."""
  size = None
  for index, image in enumerate(images):
    if size not in (None, image.size):
      raise UnreadableVideoError(f"the size changes from {size} to {image.size} after {index} frames")
    size = image.size
    yield image


def at_base_rate(frames: Iterable[Frame], footage: Footage, durations: Sequence[Fraction]) -> Iterator[Frame]:
  """Repeats frames of different durations such that all last equally long, see `resampling.base_period`.

  Programs that write GIFs merge equal neighbours. `durations` are those of all frames, in seconds.
  """
  period = None
  if durations and all(durations):
    footage.fps = float(len(durations) / sum(durations))
    period = base_period(durations, tick=footage.tick)
  if period is None:
    yield from frames
    return
  counts = [round(duration / period) for duration in durations]
  footage.fps, footage.promised = float(1 / period), sum(counts)
  footage.conversions["frames"] = f"{sum(counts)} at {footage.fps:g} fps from {len(counts)} of different durations"
  index = 0
  for frame, count in zip(frames, counts, strict=False):
    image = functools.cache(frame.image)
    for _ in range(count):
      yield frame._replace(image=image, time=index * period, duration=period)
      index += 1


def on_background(image: Image.Image, conversions: dict[str, str]) -> Image.Image | None:
  """RGB image on `BACKGROUND`, and sets 'background' of `conversions`; None if the image is opaque."""
  if not image.has_transparency_data:
    return None
  rgba = image if image.mode == "RGBA" else image.convert("RGBA")
  if int(np.asarray(rgba.getchannel("A")).min()) >= 254:  # FFmpeg rounds the 255 of some formats down.
    return None
  conversions["background"] = "#{:02x}{:02x}{:02x}".format(*BACKGROUND)
  return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), rgba).convert("RGB")


def reason_of(error: Exception) -> str:
  """Message of an error in one line, without error number and path, which the manifest contains already."""
  return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
