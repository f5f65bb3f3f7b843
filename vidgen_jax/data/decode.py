"""Reading a video file or a frame strip, whatever it is called: its kind is told by its content."""

import dataclasses
import fractions
from collections.abc import Iterator
from typing import BinaryIO

import av
from PIL import Image, UnidentifiedImageError

from vidgen_jax.data import frames as frames_lib
from vidgen_jax.data.frames import FrameEncoding

_PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
# Only self-contained formats: FFmpeg would also read play lists, which name other files, and draw plain text.
_VIDEOS = "mov,mp4,avi,matroska,webm,gif,mpeg,mpegts,mpegvideo,flv,asf,ogg,m4v,h264,hevc"


class UnreadableVideoError(Exception):
  """A file that is not a usable video; the message says why and is put into the manifest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedVideo:
  """A video file, its frames resized and encoded again.

  Attributes:
    frames: bytes of each frame.
    fps: frames per second; 0 where the file does not say.
    height: pixels of `frames`.
    width: pixels of `frames`.
    source_height: pixels before resizing.
    source_width: pixels before resizing.
  """

  frames: tuple[bytes, ...]
  fps: float
  height: int
  width: int
  source_height: int
  source_width: int


def decode_video(file: BinaryIO, *, size: int, encoding: FrameEncoding, strip_fps: float = 0.0) -> DecodedVideo:
  """Decodes a whole file, one frame in memory at a time.

  Args:
    file: mp4, avi, webm, gif, ..., or a picture whose square frames stand side by side or below each other.
    size: pixels of the smallest side of the result; 0 keeps the size.
    encoding: how to encode the frames again.
    strip_fps: frames per second of strips, which cannot say it themselves; 0 for unknown.

  Raises:
    UnreadableVideoError: if the file is empty, corrupt, of unknown kind, or a picture that is no strip.
  """
  if not file.read(1):
    raise UnreadableVideoError("empty file")
  file.seek(0)
  picture = _open_picture(file)
  if picture is None:
    file.seek(0)
    return _encode(_video_frames(file), size, encoding)
  return _encode(_strip_frames(picture, strip_fps), size, encoding)


Timed = tuple[Image.Image, float]
"""An RGB frame, and the frames per second of the file it is from."""


def _encode(frames: Iterator[Timed], size: int, encoding: FrameEncoding) -> DecodedVideo:
  encoded = []
  original = stored = None
  fps = 0.0
  for frame, frame_rate in frames:
    fps = frame_rate
    if original not in (None, frame.size):
      raise UnreadableVideoError(f"the size changes from {original} to {frame.size} after {len(encoded)} frames")
    original = frame.size
    if size:
      frame = frames_lib.resize_smallest_side(frame, size)
    stored = frame.size
    encoded.append(encoding.encode(frame))
  if not encoded:
    raise UnreadableVideoError("no frames")
  return DecodedVideo(
    frames=tuple(encoded),
    fps=fps,
    height=stored[1],
    width=stored[0],
    source_height=original[1],
    source_width=original[0],
  )


def _open_picture(file: BinaryIO) -> Image.Image | None:
  """The picture in the file, or None if it is something else."""
  try:
    return Image.open(file, formats=_PICTURES)
  except UnidentifiedImageError:
    return None
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
    raise UnreadableVideoError(f"corrupt picture: {_one_line(error)}") from error


def _strip_frames(picture: Image.Image, fps: float) -> Iterator[Timed]:
  """Cuts a strip into square frames along its longer side."""
  side, length = sorted(picture.size)
  if getattr(picture, "n_frames", 1) > 1:
    raise UnreadableVideoError(f"animated or multi-page {picture.format}, which is read neither as video nor as strip")
  if length % side:
    raise UnreadableVideoError(f"picture of {picture.width}x{picture.height} is not a strip of square frames")
  try:
    picture = picture.convert("RGB")
  except (OSError, ValueError, SyntaxError) as error:
    raise UnreadableVideoError(f"corrupt picture: {_one_line(error)}") from error
  for start in range(0, length, side):
    left, top = (start, 0) if picture.width == length else (0, start)
    yield picture.crop((left, top, left + side, top + side)), fps


def _video_frames(file: BinaryIO) -> Iterator[Timed]:
  """Decodes the first video stream, upright."""
  try:
    with av.open(file, options={"format_whitelist": _VIDEOS}) as container:
      if not container.streams.video:
        raise UnreadableVideoError("no video stream")
      stream = container.streams.video[0]
      stream.thread_type = "AUTO"
      fps = _frames_per_second(stream)
      for frame in container.decode(stream):
        image = frame.to_image()
        yield (image.rotate(frame.rotation, expand=True) if frame.rotation else image), fps
  except (av.error.FFmpegError, EOFError) as error:
    raise UnreadableVideoError(f"corrupt or not a video: {_reason(error)}") from error


def _frames_per_second(stream: av.VideoStream) -> float:
  rate: fractions.Fraction | None = stream.average_rate or stream.guessed_rate
  return float(rate) if rate else 0.0


def _reason(error: Exception) -> str:
  """FFmpeg's words without its error number and without the path, which the manifest has already."""
  return getattr(error, "strerror", None) or _one_line(error)


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split()) or type(error).__name__
