"""Reads video files with PyAV: the stream that players show, upright, with square pixels."""

import dataclasses
import functools
from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO, Literal

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from PIL import Image

from vidgen_jax.data.container_crop import Crop, read_crop
from vidgen_jax.data.source_frames import (
  ORIENTATIONS,
  Footage,
  Frame,
  UnreadableVideoError,
  at_base_rate,
  on_background,
  reason_of,
)

# Self-contained formats only: FFmpeg would also follow play lists to other files, and render plain text.
_VIDEO_FORMATS = "mov,mp4,avi,matroska,webm,gif,mpeg,mpegts,mpegvideo,flv,asf,ogg,m4v,h264,hevc"

# Tags may have any encoding, and are not used. PyAV 19 always replaces undecodable bytes and has no such option.
_LENIENT_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""By FFmpeg's AVColorTransferCharacteristic."""

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these codecs ignore their second stream, which is the transparency."""

_ACCURATE_BILINEAR = 2 | 1 << 18
"""FFmpeg's SWS_BILINEAR | SWS_ACCURATE_RND; its fast conversion of yuva420p leaves pixels at the right undefined."""

_MAX_PIXEL_ASPECT = 10
"""Largest ratio of the sides of a pixel; more is damage."""

# Signs of the matrix [[a, b], [c, d]] that maps the stored (x, y) to (a x + c y, b x + d y).
_TURNS = {
  (1, 0, 0, 1): None,
  (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
  (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
  (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
  (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
  (0, 1, -1, 0): Image.Transpose.ROTATE_270,
  (0, -1, 1, 0): Image.Transpose.ROTATE_90,
  (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_SWAPS_SIDES = (
  *(Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270),
  *(Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE),
)

Threads = Literal["AUTO", "NONE"]


def video_frames(file: BinaryIO, *, thread_type: Threads, source_fps: float) -> Generator[Frame]:
  """Frames of a video file in the order of presentation; `source_fps` is used if the file does not state its rate.

  Raises:
    UnreadableVideoError: if the file is damaged or of unknown format, or its video cannot be shown, such as HDR.
  """
  file.seek(0)
  try:
    with av.open(file, options={"format_whitelist": _VIDEO_FORMATS}, **_LENIENT_TAGS) as container:
      stream, footage = _choose_stream(container, source_fps)
      crop = read_crop(file, container, stream)
      packets = container.demux(stream)
      if container.format.name != "gif":
        yield from _stream_frames(packets, stream, footage, crop, thread_type)
        return
      packets = list(packets)  # All durations must be known.
      durations = [(packet.duration or 0) * packet.time_base for packet in packets if packet.size]
      frames = _stream_frames(packets, stream, footage, crop, thread_type)
      yield from at_base_rate(frames, footage, durations)
  except (av.error.FFmpegError, EOFError) as error:
    raise UnreadableVideoError(f"corrupt or not a video: {reason_of(error)}") from error


def _choose_stream(container: Any, source_fps: float) -> tuple[Any, Footage]:
  """The default video stream, the largest if there are several or none; UnreadableVideoError if there is none."""
  still = Disposition.attached_pic | Disposition.timed_thumbnails
  streams = [stream for stream in container.streams.video if stream.codec_context is not None]
  moving = [stream for stream in streams if not stream.disposition & still]
  if not moving:
    others = {stream.type for stream in container.streams if stream not in container.streams.video}
    others |= {"cover image" if stream in streams else "video of unknown codec" for stream in container.streams.video}
    raise UnreadableVideoError(f"no video stream{', only ' if others else ''}{' and '.join(sorted(others))}")
  stream = max(moving, key=lambda each: (bool(each.disposition & Disposition.default), each.width * each.height))
  footage = Footage(
    fps=float(stream.average_rate or stream.guessed_rate or source_fps),
    codec=stream.codec.name,
    promised=_promised_frames(container, stream),
    tick=stream.time_base or Fraction(0),
  )
  if len(moving) > 1:
    footage.conversions["stream"] = f"{moving.index(stream) + 1} of {len(moving)}"
  return stream, footage


def _promised_frames(container: Any, stream: Any) -> int:
  """Number of frames that are shown according to the index of the file; 0 if unknown."""
  if stream.frames and container.format.name == "avi":
    entries = stream.index_entries
    if len(entries) and entries[-1].timestamp == stream.frames - 1:
      return len(entries)  # Without the frames that were dropped in recording, which AVI counts.
  elif stream.frames and "mp4" in container.format.name:
    # An edit list can hide frames, which are stored because others depend on them.
    return sum(not entry.is_discard for entry in stream.index_entries)
  return stream.frames


def _stream_frames(
  packets: Iterable[Any], stream: Any, footage: Footage, crop: Crop | None, thread_type: Threads
) -> Generator[Frame]:
  # A packet of an AVI has a time of decoding only.
  has_dts_only = stream.container.format.name == "avi"
  layout = unit = ticks = duration = None
  for frame in _decoded(packets, stream, thread_type):
    if layout is None or layout.stored != (frame.width, frame.height, frame.format.name):
      layout, unit = _layout(frame, stream, footage, crop), frame.time_base
    stamp = frame.dts if has_dts_only else frame.pts
    # `stamp * unit` takes three times as long, a noticeable part of the decoding of small frames.
    time = None if stamp is None or unit is None else Fraction(stamp * unit.numerator, unit.denominator)
    if frame.duration != ticks:  # It is the same for almost all.
      ticks = frame.duration
      duration = Fraction(ticks * unit.numerator, unit.denominator) if ticks and unit else None
    image = functools.partial(_convert, frame, layout, footage)
    yield Frame(layout.size, image, footage, time, duration, bool(frame.is_corrupt))


def _decoded(packets: Iterable[Any], stream: Any, thread_type: Threads) -> Iterator[av.VideoFrame]:
  context = stream.codec_context
  if stream.metadata.get("alpha_mode") == "1" and context.name in _ALPHA_DECODERS:
    context: Any = av.CodecContext.create(_ALPHA_DECODERS[context.name], "r")
  context.thread_type = thread_type
  for packet in packets:
    yield from context.decode(packet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Layout:
  """How the frames of a stream are converted.

  Attributes:
    stored: (width, height, pixel format) of the stored frames.
    box: (left, top, right, bottom) of the part that is shown.
    square: (width, height) of that part with square pixels.
    turn: what makes the frames upright; None for nothing.
    has_alpha: whether the frames can be transparent.
  """

  stored: tuple[int, int, str]
  box: tuple[int, int, int, int]
  square: tuple[int, int]
  turn: Image.Transpose | None
  has_alpha: bool

  @property
  def size(self) -> tuple[int, int]:
    """(width, height) of the converted frames."""
    return self.square[::-1] if self.turn in _SWAPS_SIDES else self.square


def _layout(frame: av.VideoFrame, stream: Any, footage: Footage, crop: Crop | None) -> _Layout:
  if frame.color_trc in _HDR_TRANSFERS:
    transfer = _HDR_TRANSFERS[frame.color_trc]
    raise UnreadableVideoError(f"HDR video ({transfer}) has no values of 8 bits; convert it to SDR with a tone mapping")
  aspect = stream.sample_aspect_ratio or Fraction(1)  # The container's, which overrides that of the codec.
  if not 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT:
    raise UnreadableVideoError(f"sample aspect ratio of {aspect.numerator}:{aspect.denominator}")
  left, top, right, bottom = crop or (0, 0, 0, 0)
  box = (left, top, frame.width - right, frame.height - bottom)
  shown = width, height = box[2] - left, box[3] - top
  if crop:
    footage.conversions["cropping"] = f"{width}x{height} of {frame.width}x{frame.height}"
  # Enlarging one side keeps all detail; the other one is not resampled.
  square = round(width * max(aspect, 1)), round(height / min(aspect, 1))
  if square != shown:
    footage.conversions["sample_aspect_ratio"] = f"{aspect.numerator}:{aspect.denominator}"
  if (turn := _turn(frame)) is not None:
    footage.conversions["orientation"] = ORIENTATIONS[turn]
  has_alpha = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
  stored = (frame.width, frame.height, frame.format.name)
  return _Layout(stored=stored, box=box, square=square, turn=turn, has_alpha=has_alpha)


def _turn(frame: av.VideoFrame) -> Image.Transpose | None:
  """What makes a frame upright; UnreadableVideoError if its display matrix is no multiple of 90 degrees."""
  try:
    side_data: Any = frame.side_data
    data = side_data.get(Type.DISPLAYMATRIX)
  except ValueError:  # PyAV does not know all types of side data.
    data = None
  if data is None:
    return None
  a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()
  scale = max(map(abs, (a, b, c, d)))
  if not scale:
    return None
  signs = tuple(round(value / scale) for value in (a, b, c, d))
  # As FFmpeg does, an error of a degree is ignored.
  if signs not in _TURNS or any(
    abs(value) > 0.02 * scale for value, sign in zip((a, b, c, d), signs, strict=True) if not sign
  ):
    raise UnreadableVideoError("its display matrix is not a rotation by a multiple of 90 degrees")
  return _TURNS[signs]


def _convert(frame: av.VideoFrame, layout: _Layout, footage: Footage) -> Image.Image:
  (width, height, _), size = layout.stored, {}
  is_whole = layout.box == (0, 0, width, height)
  if is_whole and layout.square != (width, height):
    # FFmpeg resizes and converts colours at once.
    size = {"width": layout.square[0], "height": layout.square[1], "interpolation": "BICUBIC"}
  try:
    image = _on_background(frame, footage) if layout.has_alpha else None
    image = frame.to_image(**size) if image is None else image
  except (av.error.FFmpegError, OSError) as error:
    raise UnreadableVideoError(f"frame cannot be converted to RGB: {reason_of(error)}") from error
  if not is_whole or image.size != layout.square:
    image = image.resize(layout.square, Image.Resampling.BICUBIC, box=layout.box)
  return image if layout.turn is None else image.transpose(layout.turn)


def _on_background(frame: av.VideoFrame, footage: Footage) -> Image.Image | None:
  """The frame on `BACKGROUND`, as stored; None if it is opaque and `to_image` must convert its colours."""
  interpolation = None if frame.format.is_rgb else _ACCURATE_BILINEAR
  plane: Any = frame.reformat(format="rgba", interpolation=interpolation).planes[0]
  image = Image.frombuffer("RGBA", (frame.width, frame.height), plane, "raw", "RGBA", plane.line_size, 1)
  if (shown := on_background(image, footage.conversions)) is not None:
    return shown
  return image.convert("RGB") if frame.format.is_rgb else None
