"""GIF files that keep every frame: Pillow merges equal neighbours, so that a clip of ten still frames has one."""

import io
import struct
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

_RESTARTS_FOREVER = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
_SHORTEST = 3  # hundredths of a second


def encode_gif(frames: Sequence[Image.Image], *, fps: float) -> bytes:
  """Encodes palette images of one size as a GIF that repeats forever, with one image per frame.

  GIF counts in 1/100 s. Durations are rounded such that the sum of them stays that of `fps`: 12, 13, 12, ... at 8
  frames per second. Above 33 frames per second all are equal, as 2 and 3 would look like a repeated frame.
  """
  content = [b"GIF89a", struct.pack("<HHBBB", *frames[0].size, 0, 0, 0), _RESTARTS_FOREVER]
  for (box, image), duration in zip(_changes(frames), _durations(len(frames), fps), strict=True):
    # 4: the frame stays below the next one.
    content.append(struct.pack("<3sBHBB", b"!\xf9\x04", 4, duration, 0, 0))
    table, data = _compressed(image)
    # 128: a colour table follows; 2^(n + 1) colours.
    depth = (len(table) // 3).bit_length() - 2
    content += [struct.pack("<BHHHHB", 0x2C, *box[:2], *image.size, 128 | depth), table, data]
  return b"".join([*content, b";"])


def _durations(count: int, fps: float) -> list[int]:
  """Duration of each frame in 1/100 s."""
  if 100 / fps < _SHORTEST:
    return [round(100 / fps)] * count
  return np.diff(np.floor(np.arange(count + 1) * 100 / fps + 0.5).astype(int)).tolist()


def _changes(frames: Sequence[Image.Image]) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
  """The rectangle of every frame that differs from the frame before it, and its content; a pixel if none does."""
  last = None
  for frame in frames:
    pixels, box = np.asarray(frame.convert("RGB")), (0, 0, *frame.size)
    if last is not None:
      rows, columns = (np.flatnonzero((pixels != last).any(axis=(axis, 2))) for axis in (1, 0))
      box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0, 0, 1, 1)
    last = pixels
    yield box, frame.crop(box)


def _compressed(image: Image.Image) -> tuple[bytes, bytes]:
  """Colour table and compressed pixels of a palette image, from the GIF that Pillow makes of it alone."""
  buffer = io.BytesIO()
  image.save(buffer, format="GIF", optimize=False, interlace=0)
  content = buffer.getvalue()
  start = 13 + 3 * 2 ** ((content[10] & 7) + 1)
  table, at = content[13:start], start
  while content[at] == 0x21:  # Extensions: a label, and blocks with their length in front.
    at += 2
    while content[at]:
      at += content[at] + 1
    at += 1
  if content[at + 9] & 128:  # A table of the image itself overrides the global one.
    table = content[at + 10 : at + 10 + 3 * 2 ** ((content[at + 9] & 7) + 1)]
    at += len(table)
  return table, content[at + 10 : -1]
