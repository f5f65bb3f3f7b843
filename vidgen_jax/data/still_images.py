"""Reads images, strips of frames, and animated PNG and WebP with Pillow."""

import functools
import struct
import zlib
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vidgen_jax.data.source_frames import (
  ORIENTATIONS,
  Footage,
  Frame,
  UnreadableVideoError,
  at_base_rate,
  on_background,
  reason_of,
)
from vidgen_jax.errors import UserError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
"""Formats of strips and single frames."""

ANIMATED_FORMATS = ("PNG", "WEBP")
"""Formats whose files of several images are videos."""

DAMAGED_IMAGE_ERRORS = (
  *(OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError),
  *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""Exceptions that Pillow raises for damaged images, depending on format and damage."""


def image_frames(image: Image.Image, source_fps: float) -> Generator[Frame]:
  """Frames of a strip, or of an animated PNG or WebP. `source_fps` is that of strips, which do not contain it.

  Raises:
    UnreadableVideoError: if the image is damaged, not a strip, or has several pages.
  """
  # The other images of an MPO, a JPEG of cameras, are previews.
  if getattr(image, "n_frames", 1) == 1 or image.format == "MPO":
    return _strip_frames(image, source_fps)
  if image.format in ANIMATED_FORMATS:
    return _animation_frames(image)
  raise UnreadableVideoError(f"{image.format} of several pages, which is supported neither as video nor strip")


def _strip_frames(image: Image.Image, fps: float) -> Generator[Frame]:
  footage = Footage(fps=fps, codec=(image.format or "").lower())
  side, length = sorted(image.size)
  if length % side:
    raise UnreadableVideoError(f"image of {image.width}x{image.height} is not a strip of square frames")
  image = to_rgb(image, conversions=footage.conversions)
  for start in range(0, length, side):
    left, top = (start, 0) if image.width == length else (0, start)
    yield Frame((side, side), functools.partial(image.crop, (left, top, left + side, top + side)), footage)


def _animation_frames(image: Image.Image) -> Generator[Frame]:
  # An animated PNG can have a still image for other programs in front.
  indices = range(int(image.info.get("default_image", False)), getattr(image, "n_frames", 1))
  durations = []
  for index in indices:
    _show(image, index)
    milliseconds = image.info.get("duration") or 0
    # As browsers do with frames that are too short to be seen.
    durations.append(Fraction(milliseconds if milliseconds > 10 else 100).limit_denominator(1000) / 1000)
  codec = (image.format or "").lower()
  footage = Footage(fps=0.0, codec=codec, promised=len(durations), tick=Fraction(1, 1000))

  def frames() -> Generator[Frame]:
    time = Fraction(0)
    for index, duration in zip(indices, durations, strict=True):
      _show(image, index)
      yield Frame(
        image.size, functools.partial(to_rgb, image.copy(), conversions=footage.conversions), footage, time, duration
      )
      time += duration

  yield from at_base_rate(frames(), footage, durations)


def _show(image: Image.Image, index: int) -> None:
  try:
    image.seek(index)
    image.load()
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {reason_of(error)}") from error


def to_rgb(image: Image.Image, *, conversions: dict[str, str] | None = None) -> Image.Image:
  """Decodes an opened image to upright RGB, with transparent parts on `BACKGROUND`; sets `conversions`, see `Footage`.

  Raises UnreadableVideoError if it is damaged or has more than 8 bits a channel.
  """
  if image.mode.startswith(("I", "F")):  # Pillow would clip their values.
    raise UnreadableVideoError(f"image of more than 8 bits a channel (mode {image.mode}); save it with 8 bits")
  conversions = {} if conversions is None else conversions
  try:
    image = _upright(image, conversions)
    if (shown := on_background(image, conversions)) is not None:
      return shown
    return image if image.mode == "RGB" else image.convert("RGB")
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {reason_of(error)}") from error


def _upright(image: Image.Image, conversions: dict[str, str]) -> Image.Image:
  image.load()  # Some formats have their EXIF data behind the pixels.
  orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
  if orientation not in range(2, 9):
    return image
  conversions["orientation"] = list(ORIENTATIONS.values())[orientation - 2]
  return ImageOps.exif_transpose(image)


def read_image(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
  """Reads an image of any format that Pillow supports; of a file with several images, the first.

  The image is rotated as its EXIF orientation says, transparent parts are composited on `BACKGROUND`, and 16 bits per
  channel are reduced to 8 (65535 becomes 255).

  Returns:
    (image of mode RGB, descriptions of all changes beyond decoding).

  Raises:
    UserError: if the file is missing, damaged, not an image, or has values of unknown range.
  """
  conversions: dict[str, str] = {}
  try:
    with Image.open(path) as opened:
      count = getattr(opened, "n_frames", 1)
      changes = [f"the first of {count} images"] if count > 1 else []
      image = _upright(opened, conversions)
      deep = image.mode.startswith(("I", "F"))
      image = _reduced(image, path) if deep else to_rgb(image, conversions=conversions)
  except UnidentifiedImageError as error:
    raise UserError(f"{path} is no image of a known format; save it as PNG or JPEG") from error
  except (UnreadableVideoError, *DAMAGED_IMAGE_ERRORS) as error:
    raise UserError(f"{path} cannot be read as an image: {reason_of(error)}") from error
  changes += [conversions["orientation"]] if "orientation" in conversions else []
  changes += ["16 bits reduced to 8"] if deep else []
  changes += [f"composited on {conversions['background']}"] if "background" in conversions else []
  return image, tuple(changes)


def _reduced(image: Image.Image, path: Path) -> Image.Image:
  """RGB image of one with 16 bits per channel."""
  if image.mode == "F":
    raise UserError(f"{path} holds floating-point values of unknown range; save it with 8 or 16 bits")
  values = np.asarray(image).astype(np.int64)
  if values.min() < 0 or values.max() > 65535:
    raise UserError(f"{path} holds values from {values.min()} to {values.max()}; save it with 8 or 16 bits")
  # 65535 / 257 = 255.
  return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
