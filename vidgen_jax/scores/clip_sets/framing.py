"""From frames of any size to the resolution and channels that are wanted, one frame in memory at a time."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from vidgen_jax.data import frames as frames_lib
from vidgen_jax.ops.video import as_rgb
from vidgen_jax.scores.clip_sets.options import ClipOptions


def framed_size(height: int, width: int, options: ClipOptions) -> tuple[int, int]:
  """(H, W) of the result for frames of that size."""
  return (options.resolution, options.resolution) if options.resolution else (height, width)


def frame_images(images: Iterable[Image.Image], options: ClipOptions) -> np.ndarray:
  """Resizes and cuts images as `vidgen_jax.data.transforms.decode_squares` does with its place in the middle.

  Args:
    images: T images of one size, of mode 'RGB' or 'L'.
    options: resolution and channels.

  Returns:
    uint8[T, H, W, C].
  """
  return np.stack([_frame_image(image, options) for image in images])


def frame_array(video: np.ndarray, options: ClipOptions) -> np.ndarray:
  """`frame_images` of an array.

  Args:
    video: uint8[T, H, W, C] with C 1 or 3.
    options: resolution and channels.

  Returns:
    uint8[T, H, W, C].
  """
  _, height, width, channels = video.shape
  if framed_size(height, width, options) == (height, width):
    if channels == options.channels:
      return video
    if options.channels == 3:
      return as_rgb(video)
  return frame_images((Image.fromarray(frame[..., 0] if channels == 1 else frame) for frame in video), options)


def _frame_image(image: Image.Image, options: ClipOptions) -> np.ndarray:
  """uint8[H, W, C] of one image."""
  if options.channels == 1 and image.mode != "L":
    image = image.convert("L")
  size = options.resolution
  if size and image.size != (size, size):
    image = frames_lib.resize_smallest_side(image, size)
    left, top = round(0.5 * (image.width - size)), round(0.5 * (image.height - size))
    image = image.crop((left, top, left + size, top + size))
  if options.channels == 3 and image.mode != "RGB":
    image = image.convert("RGB")
  return np.asarray(image).reshape(image.height, image.width, options.channels)
