"""How a video of a source is read, by the kind of file that holds it."""

import io
import itertools
import math
import tokenize
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from vidgen_jax.data import decode
from vidgen_jax.data.decode import DecodedVideo, DecodeOptions, UnreadableVideoError
from vidgen_jax.data.listing import Source, SourceFile
from vidgen_jax.formats import tfrecord

Reader = Callable[[Source, SourceFile, DecodeOptions], DecodedVideo]
"""(source, video, what becomes of its frames) -> the frames; raises UnreadableVideoError or OSError."""


def _read_video(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """A file of any kind that `decode.decode_video` reads."""
  with source.open(file.path) as opened:
    return decode.decode_video(opened, options)


def _read_images(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """An image for every frame."""

  def images() -> Iterator[Image.Image]:
    for path in file.images:
      with source.open(path) as opened:
        try:
          image = Image.open(opened, formats=decode.IMAGE_FORMATS)
        except (UnidentifiedImageError, *decode.DAMAGED_IMAGE_ERRORS) as error:
          raise UnreadableVideoError(f"{path} is no image") from error
        try:
          yield decode.to_rgb(image)
        except UnreadableVideoError as error:
          raise UnreadableVideoError(f"{path}: {error}") from error

  return decode.encode_clips([images()], options)


# BAIR robot pushing (Ebert et al. 2017): a record for every trajectory; a step's image of the side camera is a string
# of raw bytes, height x width x channel.
BAIR_SIZE = 64
_BAIR_FEATURE = "{}/image_aux1/encoded"


def _read_bair(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """Trajectories of a TFRecord file."""
  first, stop = file.clips
  with source.open(file.path) as opened:
    try:
      records = itertools.islice(tfrecord.read_records(opened), first, stop)
      decoded = decode.encode_clips((_bair_frames(tfrecord.parse_example(record)) for record in records), options)
    except ValueError as error:
      raise UnreadableVideoError(str(error)) from error
  if len(decoded.cuts) + 1 != stop - first:
    raise UnreadableVideoError(f"has {first + len(decoded.cuts) + 1} trajectories, not {stop}")
  return decoded


def _bair_frames(example: Mapping[str, tfrecord.Feature]) -> Iterator[Image.Image]:
  for step in itertools.count():
    values = example.get(_BAIR_FEATURE.format(step))
    if values is None:
      if not step:
        raise UnreadableVideoError(f"a trajectory has no {_BAIR_FEATURE.format(0)}")
      return
    if not isinstance(values, list) or [len(value) for value in values] != [BAIR_SIZE * BAIR_SIZE * 3]:
      raise UnreadableVideoError(f"step {step} of a trajectory is not one image of {BAIR_SIZE}x{BAIR_SIZE} pixels")
    yield Image.fromarray(np.frombuffer(values[0], np.uint8).reshape(BAIR_SIZE, BAIR_SIZE, 3))


def _read_moving_mnist(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """Clips of a numpy file uint8 [T, N, H, W]."""
  first, stop = file.clips
  with source.open(file.path) as opened:
    shape = moving_mnist_shape(opened)
    if stop > shape[1]:
      raise UnreadableVideoError(f"holds {shape[1]} clips, not {stop}")
    start, image = opened.tell(), shape[2] * shape[3]
    size = opened.seek(0, io.SEEK_END) - start
    if size < math.prod(shape):
      raise UnreadableVideoError(f"ends after {size} of {math.prod(shape)} pixels")
    videos = np.empty((stop - first, shape[0], *shape[2:]), np.uint8)
    for time in range(shape[0]):
      opened.seek(start + (time * shape[1] + first) * image)
      data = opened.read((stop - first) * image)
      videos[:, time] = np.frombuffer(data, np.uint8).reshape(-1, *shape[2:])
  clips = ((Image.fromarray(frame).convert("RGB") for frame in video) for video in videos)
  return decode.encode_clips(clips, options)


# What NumPy raises on headers, which are Python literals.
_DAMAGED_HEADER_ERRORS = (ValueError, SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError)


def moving_mnist_shape(file: BinaryIO) -> tuple[int, int, int, int]:
  """(T, N, H, W) of a numpy file, which is left at its first number.

  Raises:
    UnreadableVideoError: if it is none, or of another type or rank.
  """
  try:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
  except _DAMAGED_HEADER_ERRORS as error:
    raise UnreadableVideoError("is no numpy file, or a damaged one") from error
  if len(shape) != 4 or min(shape) < 1 or fortran_order or dtype != np.uint8:
    order = "Fortran's" if fortran_order else "C"
    raise UnreadableVideoError(f"holds {dtype} {shape} in {order} order, not uint8 [T, N, H, W]")
  return shape


READERS: Mapping[str, Reader] = MappingProxyType(
  {"video": _read_video, "images": _read_images, "bair": _read_bair, "moving_mnist": _read_moving_mnist}
)
"""By `SourceFile.reader`."""


def read_video(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """Reads a video of a source.

  Args:
    source: holds it.
    file: which video, and how it is read.
    options: what becomes of its frames.

  Raises:
    UnreadableVideoError: if it is damaged, or not what it should be.
    OSError: if it cannot be read at all.
  """
  return READERS[file.reader](source, file, options)
