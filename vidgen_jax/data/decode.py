"""Reading a video file or a frame strip, whatever it is called: its kind is told by its content."""

import contextlib
import dataclasses
import fractions
import functools
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Literal, NamedTuple

import av
from PIL import Image, UnidentifiedImageError

from vidgen_jax.data import frames as frames_lib
from vidgen_jax.data.frames import FrameEncoding

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
"""Kinds of strips and single frames."""

# Only self-contained formats: FFmpeg would also read play lists, which name other files, and draw plain text.
_VIDEOS = "mov,mp4,avi,matroska,webm,gif,mpeg,mpegts,mpegvideo,flv,asf,ogg,m4v,h264,hevc"

# Tags may be in any encoding, and are not needed. PyAV 19 replaces what it cannot decode, and has no such option.
_LENIENT_TAGS = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

DAMAGED_IMAGE_ERRORS = (
  *(OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError),
  *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises on damaged images, depending on their format and on the place of the damage."""


class UnreadableVideoError(Exception):
  """A file that is not a usable video; the message says why and is put into the manifest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedVideo:
  """A video file, its frames resized and encoded again.

  Attributes:
    frames: bytes of each frame.
    fps: frames per second of `frames`; 0 where the file does not say.
    height: pixels of `frames`.
    width: pixels of `frames`.
    source_height: pixels before resizing.
    source_width: pixels before resizing.
    cuts: where the file holds several clips, the index in `frames` at which each but the first begins, ascending.
    damage: what the decoder says is wrong with a file that it could read all the same: fewer frames than the file
      promises, or damaged ones; '' for nothing.
  """

  frames: tuple[bytes, ...]
  fps: float
  height: int
  width: int
  source_height: int
  source_width: int
  cuts: tuple[int, ...] = ()
  damage: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeOptions:
  """What becomes of the frames of a video.

  Attributes:
    size: pixels of the smallest side of the result; 0 keeps the size.
    encoding: how to encode the frames again.
    stride: keeps every so many-th frame, beginning with the first.
    strip_fps: frames per second of images and strips, which cannot say it themselves; 0 for unknown.
    threads: 'AUTO' decodes one video by several threads where its format allows it; 'NONE' by one.
  """

  size: int = 0
  encoding: FrameEncoding = dataclasses.field(default_factory=FrameEncoding)
  stride: int = 1
  strip_fps: float = 0.0
  threads: Literal["AUTO", "NONE"] = "AUTO"


class VideoSize(NamedTuple):
  """Number of frames and the size of each, in pixels."""

  num_frames: int
  height: int
  width: int


def decode_video(file: BinaryIO, options: DecodeOptions) -> DecodedVideo:
  """Decodes a whole file, one frame in memory at a time.

  Args:
    file: mp4, avi, webm, gif, ..., or an image whose square frames stand side by side or below each other.
    options: what becomes of the frames.

  Raises:
    UnreadableVideoError: if the file is empty, corrupt, of unknown kind, or an image that is no strip.
  """
  last, num_frames, num_damaged = None, 0, 0

  def images() -> Iterator[Image.Image]:
    nonlocal last, num_frames, num_damaged
    for last in _frames(file, thread_type=options.threads, strip_fps=options.strip_fps):
      if num_frames % options.stride == 0:
        yield last.image()
      num_frames, num_damaged = num_frames + 1, num_damaged + last.is_damaged

  decoded = encode_clips([images()], dataclasses.replace(options, stride=1))
  damage = [f"{num_frames} of {last.promised} frames"] if num_frames < last.promised else []
  damage += [f"{num_damaged} damaged"] if num_damaged else []
  return dataclasses.replace(decoded, fps=last.fps / options.stride, damage=", ".join(damage))


def encode_clips(clips: Iterable[Iterable[Image.Image]], options: DecodeOptions) -> DecodedVideo:
  """Resizes and encodes the clips of one file, one frame in memory at a time.

  Args:
    clips: the RGB frames of each clip, all of one size.
    options: what becomes of the frames; `strip_fps` is their frame rate.

  Raises:
    UnreadableVideoError: if there is no frame, or the size changes.
  """
  encoded, starts, original, stored = [], [], None, None
  for clip in clips:
    starts.append(len(encoded))
    for index, image in enumerate(clip):
      if original not in (None, image.size):
        raise UnreadableVideoError(f"the size changes from {original} to {image.size} after {len(encoded)} frames")
      original = image.size
      if index % options.stride == 0:
        image = frames_lib.resize_smallest_side(image, options.size) if options.size else image
        encoded.append(options.encoding.encode(image))
        stored = image.size
  if stored is None:
    raise UnreadableVideoError("no frames")
  return DecodedVideo(
    frames=tuple(encoded),
    fps=options.strip_fps / options.stride,
    height=stored[1],
    width=stored[0],
    source_height=original[1],
    source_width=original[0],
    cuts=tuple(starts[1:]),
  )


def measure_video(file: BinaryIO, *, stop: int | None = None) -> VideoSize:
  """Decodes a file of the kinds that `decode_video` reads, keeps nothing, and says how large it is.

  Containers may say nothing or the wrong thing about the number of their frames. Nothing is converted to RGB, which
  is most of the work of reading.

  Args:
    file: as in `decode_video`.
    stop: decodes at most so many frames, and counts no more; None for all.

  Raises:
    UnreadableVideoError: as `decode_video`, if the damage is met before `stop`.
  """
  num_frames, size = 0, (0, 0)
  with contextlib.closing(_frames(file)) as frames:
    for frame in frames:
      num_frames, size = num_frames + 1, frame.size
      if num_frames == stop:
        break
  return VideoSize(num_frames, height=size[1], width=size[0])


def iterate_frames(file: BinaryIO, *, wanted: range | None = None) -> Iterator[Image.Image]:
  """Decodes some frames of a file of the kinds that `decode_video` reads, one at a time.

  Args:
    file: as in `decode_video`.
    wanted: which frames, ascending; None for all. Decoding ends with the last of them, and a file that is shorter gives
      those that it has.

  Yields:
    RGB frames, upright, all of one size.

  Raises:
    UnreadableVideoError: as `decode_video`, if the damage is met on the way.
  """
  with contextlib.closing(_frames(file)) as frames:
    for index, frame in enumerate(frames):
      if wanted is None or index in wanted:
        yield frame.image()
      if wanted is not None and index >= wanted[-1]:
        return


class _Frame(NamedTuple):
  size: tuple[int, int]
  """(width, height)."""
  fps: float
  """Of the file it is from."""
  image: Callable[[], Image.Image]
  """Makes the RGB image."""
  is_damaged: bool = False
  """Whether the decoder met damage in it."""
  promised: int = 0
  """Frames that its file says it has; 0 where it does not say."""


def _frames(
  file: BinaryIO, *, thread_type: Literal["AUTO", "NONE"] = "NONE", strip_fps: float = 0.0
) -> Iterator[_Frame]:
  """The frames of a video or a strip, all of one size, at least one.

  One thread is the faster way for short videos, and where several files are read at a time.
  """
  if not file.read(1):
    raise UnreadableVideoError("empty file")
  file.seek(0)
  image = _open_image(file)
  if image is None:
    file.seek(0)
    frames = _video_frames(file, thread_type)
  else:
    frames = _strip_frames(image, strip_fps)
  original, count = None, 0
  with contextlib.closing(frames):
    for frame in frames:
      if original not in (None, frame.size):
        raise UnreadableVideoError(f"the size changes from {original} to {frame.size} after {count} frames")
      original, count = frame.size, count + 1
      yield frame
  if not count:
    raise UnreadableVideoError("no frames")


def _open_image(file: BinaryIO) -> Image.Image | None:
  """The image in the file, or None if it is something else."""
  try:
    return Image.open(file, formats=IMAGE_FORMATS)
  except UnidentifiedImageError:
    return None
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {_one_line(error)}") from error


def _strip_frames(image: Image.Image, fps: float) -> Iterator[_Frame]:
  """Cuts a strip into square frames along its longer side."""
  side, length = sorted(image.size)
  try:
    num_pages = getattr(image, "n_frames", 1)
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {_one_line(error)}") from error
  if num_pages > 1:
    raise UnreadableVideoError(f"animated or multi-page {image.format}, which is read neither as video nor as strip")
  if length % side:
    raise UnreadableVideoError(f"image of {image.width}x{image.height} is not a strip of square frames")
  image = to_rgb(image)
  for start in range(0, length, side):
    left, top = (start, 0) if image.width == length else (0, start)
    box = (left, top, left + side, top + side)
    yield _Frame((side, side), fps, functools.partial(image.crop, box))


def to_rgb(image: Image.Image) -> Image.Image:
  """Decodes an image that has been opened.

  Raises:
    UnreadableVideoError: if it is damaged, or has more than 8 bits a channel, which Pillow would cut off.
  """
  if image.mode.startswith(("I", "F")):
    raise UnreadableVideoError(f"image of more than 8 bits a channel (mode {image.mode}); save it with 8 bits")
  try:
    return image.convert("RGB")
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {_one_line(error)}") from error


def _video_frames(file: BinaryIO, thread_type: Literal["AUTO", "NONE"]) -> Iterator[_Frame]:
  """Decodes the first video stream, upright."""
  try:
    with av.open(file, options={"format_whitelist": _VIDEOS}, **_LENIENT_TAGS) as container:
      if not container.streams.video:
        raise UnreadableVideoError("no video stream")
      stream = container.streams.video[0]
      stream.thread_type = thread_type
      fps = _frames_per_second(stream)
      for frame in container.decode(stream):
        size = (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)
        yield _Frame(size, fps, functools.partial(_upright, frame), bool(frame.is_corrupt), stream.frames)
  except (av.error.FFmpegError, EOFError) as error:
    raise UnreadableVideoError(f"corrupt or not a video: {_reason(error)}") from error


def _upright(frame: av.VideoFrame) -> Image.Image:
  try:
    image = frame.to_image()
  except av.error.FFmpegError as error:
    raise UnreadableVideoError(f"frame cannot be converted to RGB: {_reason(error)}") from error
  return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _frames_per_second(stream: av.VideoStream) -> float:
  rate: fractions.Fraction | None = stream.average_rate or stream.guessed_rate
  return float(rate) if rate else 0.0


def _reason(error: Exception) -> str:
  """FFmpeg's words without its error number and without the path, which the manifest has already."""
  return getattr(error, "strerror", None) or _one_line(error)


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split()) or type(error).__name__
