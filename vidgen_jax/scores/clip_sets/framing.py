"""Converts frames of any size to the requested resolution and channels."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from vidgen_jax.data.transforms import cut_square
from vidgen_jax.media.layout import as_rgb
from vidgen_jax.scores.clip_sets.options import ClipOptions


def frame_images(images: Iterable[Image.Image], options: ClipOptions) -> np.ndarray:
  """Resizes and crops images, one at a time.

  Args:
    images: T images of one size, of mode 'RGB' or 'L'.
    options: resolution and channels.

  Returns:
    uint8[T, H, W, C].
  """
  return np.stack([_frame_image(image, options) for image in images])


def frame_array(video: np.ndarray, options: ClipOptions) -> np.ndarray:
  """Resizes and crops a video.

  Args:
    video: uint8[T, H, W, C] with C 1 or 3.
    options: resolution and channels.

  Returns:
    uint8[T, H, W, C].
  """
  _, height, width, channels = video.shape
  if options.frame_size(height, width) == (height, width):
    if channels == options.channels:
      return video
    if options.channels == 3:
      return as_rgb(video)
  return frame_images((Image.fromarray(frame[..., 0] if channels == 1 else frame) for frame in video), options)


def _frame_image(image: Image.Image, options: ClipOptions) -> np.ndarray:
  if options.channels == 1 and image.mode != "L":
    image = image.convert("L")
  frame = cut_square(image, resolution=options.resolution) if options.resolution else np.asarray(image)
  frame = frame.reshape(*frame.shape[:2], -1)
  # Grey is repeated after resizing, which gives the same values at a third of the cost.
  return as_rgb(frame) if frame.shape[-1] < options.channels else frame
