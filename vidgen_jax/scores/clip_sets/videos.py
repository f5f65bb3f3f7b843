"""Clips in video files, frame strips, and folders of single frames; conversion of frames to the requested size."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vidgen_jax.data.decode import (
  DAMAGED_IMAGE_ERRORS,
  IMAGE_FORMATS,
  UnreadableVideoError,
  iterate_frames,
  measure_video,
  reason_of,
  same_size,
)
from vidgen_jax.data.folders import IMAGE_SUFFIXES
from vidgen_jax.data.still_images import to_rgb
from vidgen_jax.data.transforms import cut_square
from vidgen_jax.media.images import as_rgb
from vidgen_jax.scores.clip_sets.reader import Clip, ClipOptions


def frame_images(images: Iterable[Image.Image], options: ClipOptions) -> np.ndarray:
  """Resizes and crops T images of one size and of mode 'RGB' or 'L', one at a time: uint8[T, H, W, 3]."""

  def convert(image: Image.Image) -> np.ndarray:
    frame = cut_square(image, resolution=options.resolution) if options.resolution else np.asarray(image)
    # Grey is repeated after resizing, which gives the same values at a third of the cost.
    return as_rgb(frame.reshape(*frame.shape[:2], -1))

  return np.stack([convert(image) for image in images])


def frame_array(video: np.ndarray, options: ClipOptions) -> np.ndarray:
  """Resizes and crops a video uint8[T, H, W, C] with C 1 or 3: uint8[T, H, W, 3]."""
  _, height, width, channels = video.shape
  if options.frame_size(height, width) == (height, width):
    return as_rgb(video)
  return frame_images((Image.fromarray(frame[..., 0] if channels == 1 else frame) for frame in video), options)


def open_video(path: Path, name: str, options: ClipOptions) -> Clip:
  """Opens the clip of a video file or a frame strip, called `name` in messages.

  Opening decodes the needed frames once, without conversion: damage and the length, about which containers can be
  silent or wrong, are known before anything is computed.

  Raises:
    UnreadableVideoError: if the file is damaged, a single image, or too short.
    OSError: if the file cannot be read.
  """
  with path.open("rb") as file:
    facts = measure_video(file, stop=options.stop)
  if facts.num_frames == 1 and path.suffix.lower() in IMAGE_SUFFIXES:
    raise UnreadableVideoError("a single image, neither a strip nor one of the numbered frames of a clip")
  wanted = options.wanted(facts.num_frames, name)

  def read() -> np.ndarray:
    with path.open("rb") as file:
      video = frame_images(iterate_frames(file, wanted=wanted), options)
    if len(video) != len(wanted):
      raise UnreadableVideoError(f"{len(video)} of {len(wanted)} frames are left")
    return video

  shape = (len(wanted), *options.frame_size(facts.height, facts.width))
  return Clip(name, shape, read, encoding=facts.codec, fps=facts.fps)


def open_frames(files: Sequence[Path], name: str, options: ClipOptions) -> Clip:
  """Opens the clip of a folder that contains each frame as an image; `files` are the frames in order.

  Raises:
    UnreadableVideoError: if the clip is too short, a frame of the window is damaged, or the sizes of its frames differ.
  """
  chosen = [files[index] for index in options.wanted(len(files), name)]
  sizes = [image.size for image in same_size(map(_open_frame, chosen))]
  width, height = sizes[0]
  shape = (len(chosen), *options.frame_size(height, width))
  encoding = f"{chosen[0].suffix[1:].lower()} frames"
  return Clip(name, shape, lambda: frame_images(map(_open_frame, chosen), options), encoding=encoding)


def _open_frame(file: Path) -> Image.Image:
  try:
    with Image.open(file, formats=IMAGE_FORMATS) as image:
      return to_rgb(image)
  except (UnreadableVideoError, *DAMAGED_IMAGE_ERRORS) as error:
    raise UnreadableVideoError(f"frame {file.name}: {reason_of(error)}") from error
