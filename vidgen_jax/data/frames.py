"""Encoding, decoding and resizing of one frame: a `PIL.Image.Image`, as Pillow works without holding the GIL."""

import dataclasses
import io

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from vidgen_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameEncoding:
  """Storage format of frames.

  Attributes:
    encoding: 'jpeg' or 'png', which is lossless; JPEG at quality 95 needs a third of its space for Weizmann at 64x64.
    quality: JPEG quality, 1..100. Chroma is never subsampled: small frames have no resolution to spare.
  """

  encoding: str = "jpeg"
  quality: int = 95

  def __post_init__(self):
    if self.encoding not in ("jpeg", "png"):
      raise UserError(f"--encoding must be one of jpeg, png, got {self.encoding!r}")
    if not 1 <= self.quality <= 100:
      raise UserError(f"--quality must be in 1..100, got {self.quality}")

  def encode(self, frame: Image.Image) -> bytes:
    """Encodes an RGB frame."""
    buffer = io.BytesIO()
    frame.save(buffer, self.encoding, quality=self.quality, subsampling=0)  # PNG ignores both options.
    return buffer.getvalue()


def decode_frame(data: bytes, *, channels: int) -> Image.Image:
  """Decodes JPEG or PNG bytes to an image of mode 'RGB' (3 channels) or 'L' (1), values 0..255.

  'L' is luma (ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B).
  """
  # Opening a known format and not converting an image that has the right mode saves a quarter of the decoding time.
  file, mode = io.BytesIO(data), "RGB" if channels == 3 else "L"
  image = PngImageFile(file) if data.startswith(b"\x89PNG\r\n\x1a\n") else JpegImageFile(file)
  if image.mode != mode:
    return image.convert(mode)
  image.load()
  return image


def resize_smallest_side(image: Image.Image, size: int) -> Image.Image:
  """Resizes so that the smallest side has `size` pixels, and keeps the aspect ratio.

  Integer factors n are a mean over n x n pixels (64 -> 32 is 2 x 2 mean pooling); other factors use a triangle filter,
  antialiased when shrinking.
  """
  width, height = image.size
  smallest = min(width, height)
  if smallest == size:
    return image
  if smallest % size == 0:
    return image.reduce(smallest // size)
  scale = size / smallest
  target = (max(size, round(width * scale)), max(size, round(height * scale)))
  return image.resize(target, Image.Resampling.BILINEAR)
