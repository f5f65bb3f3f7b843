"""Clips in video files, frame strips, and folders of single frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vidgen_jax.data.decode import (
  DAMAGED_IMAGE_ERRORS,
  IMAGE_FORMATS,
  UnreadableVideoError,
  iterate_frames,
  measure_video,
  to_rgb,
)
from vidgen_jax.scores.clip_sets.framing import frame_images
from vidgen_jax.scores.clip_sets.options import ClipOptions
from vidgen_jax.scores.clip_sets.reader import ClipShape, Reader, UnusableFileError, window_of

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"))

_READ_ERRORS = (UnreadableVideoError, OSError, ValueError)


def open_video(path: Path, name: str, options: ClipOptions) -> Reader:
  """Opens the clip of a video file or a frame strip.

  Opening decodes the needed frames once, without conversion: damage and the length, about which containers can be
  silent or wrong, are known before anything is computed.

  Args:
    path: video or strip.
    name: name of the file in messages.
    options: requested window.

  Raises:
    UnusableFileError: if the file cannot be read, is a single image, or is too short.
  """
  try:
    with path.open("rb") as file:
      size = measure_video(file, stop=options.stop)
  except (UnreadableVideoError, OSError) as error:
    raise UnusableFileError(str(error)) from error
  if size.num_frames == 1 and path.suffix.lower() in IMAGE_SUFFIXES:
    raise UnusableFileError("a single image, neither a strip nor one of the numbered frames of a clip")
  wanted = window_of(size.num_frames, options)

  def read(index: int) -> np.ndarray:
    del index
    with path.open("rb") as file:
      video = frame_images(iterate_frames(file, wanted=wanted), options)
    if len(video) != len(wanted):
      raise UnreadableVideoError(f"{len(video)} of {len(wanted)} frames are left")
    return video

  shape = ClipShape(len(wanted), *options.frame_size(size.height, size.width))
  return Reader(names=[name], shape=shape, read=read, read_errors=_READ_ERRORS)


def open_frames(files: Sequence[Path], name: str, options: ClipOptions) -> Reader:
  """Opens the clip of a folder that holds each frame as an image.

  Args:
    files: frames in order.
    name: name of the folder in messages.
    options: requested window.

  Raises:
    UnusableFileError: if the clip is too short, a frame of the window is damaged, or the sizes of its frames differ.
  """
  chosen = [files[index] for index in window_of(len(files), options)]
  sizes = []
  for file in chosen:
    try:
      sizes.append(_open_frame(file).size)
    except (UnreadableVideoError, OSError) as error:
      raise UnusableFileError(f"frame {file.name}: {error}") from error
    if sizes[-1] != sizes[0]:
      raise UnusableFileError(f"the size changes from {sizes[0]} to {sizes[-1]} at frame {file.name}")
  width, height = sizes[0]
  shape = ClipShape(len(chosen), *options.frame_size(height, width))

  def read(index: int) -> np.ndarray:
    del index
    return frame_images(map(_open_frame, chosen), options)

  return Reader(names=[name], shape=shape, read=read, read_errors=_READ_ERRORS)


def _open_frame(file: Path) -> Image.Image:
  try:
    with Image.open(file, formats=IMAGE_FORMATS) as image:
      return to_rgb(image)
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {' '.join(str(error).split())}") from error
