"""Cropping rectangles of MP4, MOV and Matroska files, which FFmpeg's program applies and PyAV does not expose."""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

_MATROSKA_SEGMENT, _MATROSKA_TRACKS, _MATROSKA_TRACK = 0x18538067, 0x1654AE6B, 0xAE
_MATROSKA_TYPE, _MATROSKA_VIDEO, _MATROSKA_VIDEO_TYPE = 0x83, 0xE0, b"\x01"
_MATROSKA_CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)
"""Left, top, right, bottom."""

_SAMPLE_ENTRY = 78
"""Bytes of the description of a video's samples in MP4, before its boxes."""


class Crop(NamedTuple):
  """Numbers of pixels to remove at each side of a stored frame."""

  left: int
  top: int
  right: int
  bottom: int


class _Part(NamedTuple):
  kind: Any
  start: int
  stop: int


def read_crop(file: BinaryIO, container: Any, stream: Any) -> Crop | None:
  """Rectangle of a video stream in a container that PyAV has opened from `file`; None for none."""
  position = file.tell()
  try:
    whole = _Part(None, 0, file.seek(0, 2))
    if "mp4" in container.format.name:
      crop = _clean_aperture(file, whole, stream)
    elif "matroska" in container.format.name:
      crop = _pixel_crop(file, whole, container.streams.video.index(stream))
    else:
      crop = None
  except (struct.error, LookupError, ValueError, ZeroDivisionError):  # The boxes are absent, or damaged.
    crop = None
  finally:
    file.seek(position)  # FFmpeg does not know that it was changed.
  if crop is None or not any(crop) or min(crop) < 0:
    return None
  fits = crop.left + crop.right < stream.width and crop.top + crop.bottom < stream.height
  return crop if fits else None


def _clean_aperture(file: BinaryIO, whole: _Part, stream: Any) -> Crop:
  movie = _first(_boxes(file, whole), b"moov")
  tracks = [part for part in _boxes(file, movie) if part.kind == b"trak"]
  part = tracks[[_track_id(file, track) for track in tracks].index(stream.id)]
  for kind in (b"mdia", b"minf", b"stbl", b"stsd"):
    part = _first(_boxes(file, part), kind)
  entry = _first(_boxes(file, part._replace(start=part.start + 8)))
  box = _first(_boxes(file, entry._replace(start=entry.start + _SAMPLE_ENTRY)), b"clap")
  values = struct.unpack_from(">4I", _read(file, box)) + struct.unpack_from(">iIiI", _read(file, box), 16)
  width, height, right, down = (values[i] / values[i + 1] for i in range(0, 8, 2))
  # The offset is that of the centre.
  left, top = (stream.width - width) / 2 + right, (stream.height - height) / 2 + down
  return Crop(int(left), int(top), int(stream.width - width - left), int(stream.height - height - top))


def _track_id(file: BinaryIO, track: _Part) -> int:
  header = _read(file, _first(_boxes(file, track), b"tkhd"))
  return struct.unpack_from(">I", header, 12 if header[0] == 0 else 20)[0]


def _pixel_crop(file: BinaryIO, whole: _Part, index: int) -> Crop:
  tracks = _first(_elements(file, _first(_elements(file, whole), _MATROSKA_SEGMENT)), _MATROSKA_TRACKS)
  videos = []
  for track in (part for part in _elements(file, tracks) if part.kind == _MATROSKA_TRACK):
    fields = {part.kind: part for part in _elements(file, track)}
    if _MATROSKA_VIDEO in fields and _read(file, fields[_MATROSKA_TYPE]) == _MATROSKA_VIDEO_TYPE:
      videos.append(fields[_MATROSKA_VIDEO])
  found = {part.kind: int.from_bytes(_read(file, part)) for part in _elements(file, videos[index])}
  return Crop(*(found.get(kind, 0) for kind in _MATROSKA_CROPS))


def _boxes(file: BinaryIO, outer: _Part) -> Iterator[_Part]:
  start = outer.start
  while start + 8 <= outer.stop:
    file.seek(start)
    size, kind, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
    head, size = (16, large) if size == 1 else (8, size or outer.stop - start)
    if size < head:
      return
    yield _Part(kind, start + head, min(start + size, outer.stop))
    start += size


def _elements(file: BinaryIO, outer: _Part) -> Iterator[_Part]:
  start = outer.start
  while start < outer.stop:
    file.seek(start)
    head = file.read(12).ljust(12, b"\0")
    # The leading zeros of the first byte are the number of bytes that follow it.
    id_length = 9 - head[0].bit_length()
    size_length = 9 - head[min(id_length, 11)].bit_length()
    if id_length > 4 or size_length > 8:
      return
    size = int.from_bytes(head[id_length : id_length + size_length]) & ((1 << 7 * size_length) - 1)
    start += id_length + size_length
    stop = outer.stop if size == (1 << 7 * size_length) - 1 else min(start + size, outer.stop)
    yield _Part(int.from_bytes(head[:id_length]), start, stop)
    start = stop


def _first(parts: Iterator[_Part], kind: Any = None) -> _Part:
  for part in parts:
    if kind in (None, part.kind):
      return part
  raise LookupError(kind)


def _read(file: BinaryIO, part: _Part) -> bytes:
  file.seek(part.start)
  return file.read(min(part.stop - part.start, 1000))
