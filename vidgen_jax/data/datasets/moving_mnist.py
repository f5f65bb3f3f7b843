"""Moving MNIST: two digits that bounce in 64x64 pixels, 10,000 clips of 20 frames.

`mnist_test_seq.npy`, uint8 [time, clip, height, width], is the owners' test set; they generate training clips on the
fly. The default rule trains on 9,000 of its clips, so that a model can be trained from this file alone.
"""

import io
import math
import tokenize
from typing import BinaryIO

import numpy as np
from PIL import Image

from vidgen_jax.data.datasets import ListError, SplitRule
from vidgen_jax.data.datasets.published import by_file_name, published
from vidgen_jax.data.decode import DecodedVideo, DecodeOptions, UnreadableVideoError, encode_clips
from vidgen_jax.data.listing import UNLABELLED, Source, SourceFile

_FILE = "mnist_test_seq.npy"
# Headers are Python literals, so that parsing damaged ones raises all of these.
_DAMAGED_HEADER_ERRORS = (ValueError, SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError)


@published(
  name="moving_mnist",
  title="Moving MNIST (Srivastava et al. 2015)",
  split_rules={
    "nine_tenths": SplitRule(
      "the first 9,000 clips of the owners' test set for training", {"train": 9000, "test": 1000}
    ),
    "test": SplitRule("all for testing, as the owners do", {"test": 10000}),
  },
  obtain=(
    "fetch mnist_test_seq.npy (0.8 GB) from www.cs.toronto.edu/~nitish/unsupervised_video into "
    "<data_dir>/downloads/manual/moving_mnist; a build with --size=64 takes about 0.3 GB and about a minute of one core"
  ),
)
def _list_files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  path = by_file_name(stamps, (".npy",)).get(_FILE)
  if path is None:
    raise ListError(f"has no {_FILE}")
  with source.open(path) as file:
    try:
      num_clips = read_shape(file)[1]
    except UnreadableVideoError as error:
      raise ListError(f"has a {_FILE} that {error}") from error
  border = 9 * num_clips // 10 if rule == "nine_tenths" else 0
  # 500 clips are read at a time.
  starts = sorted({border, *range(0, num_clips, 500)} - {num_clips})
  return [
    SourceFile(
      path=path,
      class_name=UNLABELLED,
      split="train" if first < border else "test",
      stamp=stamps[path],
      name=f"clips_{first}..{stop - 1}",
      reader=read_clips,
      clips=(first, stop),
    )
    for first, stop in zip(starts, [*starts[1:], num_clips], strict=True)
  ]


def read_clips(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """A `SourceFile.reader` of clips `file.clips` of a NumPy file uint8 [T, N, H, W].

  Raises UnreadableVideoError if the file is damaged, or of another type or rank.
  """
  first, stop = file.clips or (0, 0)
  with source.open(file.path) as opened:
    num_frames, num_clips, height, width = shape = read_shape(opened)
    start = opened.tell()
    size = opened.seek(0, io.SEEK_END) - start
    if size < math.prod(shape):
      raise UnreadableVideoError(f"ends after {size} of {math.prod(shape)} pixels")
    videos = np.empty((stop - first, num_frames, height, width), np.uint8)
    for time in range(num_frames):
      opened.seek(start + (time * num_clips + first) * height * width)
      data = opened.read((stop - first) * height * width)
      videos[:, time] = np.frombuffer(data, np.uint8).reshape(-1, height, width)
  clips = ((Image.fromarray(frame).convert("RGB") for frame in video) for video in videos)
  return encode_clips(clips, options)


def read_shape(file: BinaryIO) -> tuple[int, int, int, int]:
  """Reads the shape (T, N, H, W) of a NumPy file, up to its first value; UnreadableVideoError for other files."""
  try:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
  except _DAMAGED_HEADER_ERRORS as error:
    raise UnreadableVideoError("is not a NumPy file, or damaged") from error
  if len(shape) != 4 or min(shape) < 1 or fortran_order or dtype != np.uint8:
    order = "Fortran" if fortran_order else "C"
    raise UnreadableVideoError(f"holds {dtype} {shape} in {order} order, not uint8 [T, N, H, W]")
  return shape
