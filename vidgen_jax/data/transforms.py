"""Encoding, decoding, resizing and cropping of frames, and windows of stored clips.

A frame is a `PIL.Image.Image`, as Pillow works without holding the GIL.
"""

import dataclasses
import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from vidgen_jax.data.config import DataConfig
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

  @property
  def facts(self) -> dict[str, Any]:
    """Entry 'stored' of a manifest: 'encoding', 'quality' of JPEG, and whether frames are 'lossy'."""
    quality = {"quality": self.quality} if self.encoding == "jpeg" else {}
    return {"encoding": self.encoding, **quality, "lossy": self.encoding == "jpeg"}

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


def resize(image: Image.Image, size: int, *, mode: str = "smallest_side") -> Image.Image:
  """Resizes a frame as `DataConfig.resize` says: its smallest side to `size`, to `size` x `size` pixels, or not."""
  if mode == "squash":
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)
  return resize_smallest_side(image, size) if mode == "smallest_side" else image


def decode_squares(
  frames: Iterable[bytes],
  *,
  resolution: int,
  channels: int = 3,
  offset: tuple[float, float] = (0.5, 0.5),
  flip: bool = False,
  mode: str = "smallest_side",
  resize_to: int = 0,
) -> np.ndarray:
  """Decodes frames, resizes them and crops the same square out of each.

  Args:
    frames: T frames as JPEG or PNG bytes, all of one size.
    resolution: height and width of the result in pixels.
    channels: number of channels C: 3 for RGB, 1 for luma.
    offset: position of the square along height and width, in [0, 1]: 0 is top or left, 0.5 the centre.
    flip: whether frames are mirrored left to right.
    mode: `DataConfig.resize`.
    resize_to: `DataConfig.resize_to`.

  Returns uint8[T, H, W, C]; raises a UserError if a frame that is not resized is smaller than the square.
  """
  images = (decode_frame(data, channels=channels) for data in frames)
  square = functools.partial(cut_square, resolution=resolution, offset=offset, mode=mode, resize_to=resize_to)
  video = np.stack([square(image) for image in images])
  return np.ascontiguousarray(video[:, :, ::-1]) if flip else video


def decode_window(frames: Iterable[bytes], config: DataConfig, **options: Any) -> np.ndarray:
  """`decode_squares` with the size and framing of a data config; `options` are 'offset' and 'flip'."""
  return decode_squares(frames, channels=config.channels, **config.square, **options)


def cut_square(
  image: Image.Image,
  *,
  resolution: int,
  offset: tuple[float, float] = (0.5, 0.5),
  mode: str = "smallest_side",
  resize_to: int = 0,
) -> np.ndarray:
  """Resizes a frame and crops a square, uint8[H, W, C]; see `decode_squares`."""
  image = resize(image, resize_to or resolution, mode=mode)
  if image.size != (resolution, resolution):
    width, height = image.size
    check_crop(width, height, resolution)
    top, left = round(offset[0] * (height - resolution)), round(offset[1] * (width - resolution))
    image = image.crop((left, top, left + resolution, top + resolution))
  return np.asarray(image).reshape(resolution, resolution, -1)


def check_crop(width: int, height: int, resolution: int) -> None:
  """Raises a UserError if a square cannot be cropped out of frames of this size."""
  if min(width, height) < resolution:
    raise UserError(
      f"data.resize=none cannot crop data.resolution={resolution} out of frames of {width}x{height} pixels; "
      "build the data set with larger frames, or lower data.resolution"
    )


def window_frames(frames: Sequence[bytes], start: int, config: DataConfig) -> list[bytes]:
  """Selects the T encoded frames of the window that begins at frame `start`."""
  return [frames[index] for index in range(start, start + config.clip_length, config.frame_stride)]


def random_window(clip: Mapping[str, Any], generator: np.random.Generator, *, config: DataConfig) -> dict[str, Any]:
  """Training window: random time, position as `config.train_crop`, mirrored at random if `config.random_flip`.

  Returns:
    {'video': uint8[T, H, W, C], 'label': int32[]}.
  """
  # All values are drawn even if unused, so that an option changes nothing but its own effect.
  start = int(generator.integers(len(clip["frames"]) - config.clip_length + 1))
  top, left = generator.random(2)
  flip = bool(generator.random() < 0.5) and config.random_flip
  offset = (top, left) if config.train_crop == "random" else (0.5, 0.5)
  return cut_window(clip, start, config, offset=offset, flip=flip)


def evaluation_window(clip: Mapping[str, Any], generator: np.random.Generator, *, config: DataConfig) -> dict[str, Any]:
  """Evaluation window, as `random_window`: centre square, at the time `config.eval_window`, which is not 'all'."""
  last = len(clip["frames"]) - config.clip_length
  starts = {"start": 0, "centre": last // 2, "random": int(generator.integers(last + 1))}
  return cut_window(clip, starts[config.eval_window], config)


def cut_window(clip: Mapping[str, Any], start: int, config: DataConfig, **options: Any) -> dict[str, Any]:
  """The window that begins at frame `start`, as `random_window`; `options` are those of `decode_window`."""
  video = decode_window(window_frames(clip["frames"], start, config), config, **options)
  return {"video": video, "label": np.int32(clip["label"])}
