"""Reading a single image of any format, as people have them: upright, RGB, 8 bits a channel."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vidgen_jax.data.decode import DAMAGED_IMAGE_ERRORS
from vidgen_jax.errors import UserError


class DecodedImage(NamedTuple):
  """An image that was read."""

  image: Image.Image
  """Of mode RGB."""
  changes: tuple[str, ...]
  """What was done to it beyond decoding, in words; () if nothing was."""


def read_image(path: Path) -> DecodedImage:
  """Reads an image of any format that Pillow reads; of several in one file the first.

  It is turned as its EXIF orientation says; transparent parts are laid on white; 16 bits a channel become 8 (65535
  becomes 255).

  Args:
    path: the file.

  Raises:
    UserError: if it is missing, damaged, no image, or has numbers whose range nobody knows.
  """
  try:
    with Image.open(path) as opened:
      count = getattr(opened, "n_frames", 1)
      changes = [f"the first of {count} images"] if count > 1 else []
      opened.load()
      if opened.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        changes.append("turned as its EXIF says")
      image, change = _to_rgb(ImageOps.exif_transpose(opened), path)
  except UnidentifiedImageError as error:
    raise UserError(f"{path} is no image of a known format; save it as PNG or JPEG") from error
  except DAMAGED_IMAGE_ERRORS as error:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path} cannot be read as an image: {reason}") from error
  return DecodedImage(image, (*changes, change) if change else tuple(changes))


def _to_rgb(image: Image.Image, path: Path) -> tuple[Image.Image, str]:
  """(the image in mode RGB, what was done to it)."""
  if image.mode == "F":
    raise UserError(f"{path} holds floating-point numbers, and which is white is unknown; save it with 8 or 16 bits")
  if image.mode.startswith("I"):
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
      raise UserError(f"{path} holds numbers from {values.min()} to {values.max()}; save it with 8 or 16 bits")
    # 65535 / 257 = 255.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB"), "16 bits made 8"
  if not image.has_transparency_data:
    return image.convert("RGB"), ""
  image = image.convert("RGBA")
  if image.getchannel("A").getextrema()[0] == 255:
    return image.convert("RGB"), ""
  white = Image.new("RGBA", image.size, "white")
  return Image.alpha_composite(white, image).convert("RGB"), "laid on white"
