"""Reads a single image of any format: upright, RGB, 8 bits per channel."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vidgen_jax.data.decode import DAMAGED_IMAGE_ERRORS, reason_of
from vidgen_jax.errors import UserError


def read_image(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
  """Reads an image of any format that Pillow supports; of a file with several images, the first.

  The image is rotated as its EXIF orientation says, transparent parts are composited on white, and 16 bits per channel
  are reduced to 8 (65535 becomes 255).

  Returns:
    (image of mode RGB, descriptions of all changes beyond decoding).

  Raises:
    UserError: if the file is missing, damaged, not an image, or has values of unknown range.
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
    raise UserError(f"{path} cannot be read as an image: {reason_of(error)}") from error
  return image, (*changes, change) if change else tuple(changes)


def _to_rgb(image: Image.Image, path: Path) -> tuple[Image.Image, str]:
  """(image of mode RGB, description of the change or '')."""
  if image.mode == "F":
    raise UserError(f"{path} holds floating-point values of unknown range; save it with 8 or 16 bits")
  if image.mode.startswith("I"):
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
      raise UserError(f"{path} holds values from {values.min()} to {values.max()}; save it with 8 or 16 bits")
    # 65535 / 257 = 255.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB"), "16 bits reduced to 8"
  if not image.has_transparency_data:
    return image.convert("RGB"), ""
  image = image.convert("RGBA")
  if image.getchannel("A").getextrema()[0] == 255:
    return image.convert("RGB"), ""
  white = Image.new("RGBA", image.size, "white")
  return Image.alpha_composite(white, image).convert("RGB"), "composited on white"
