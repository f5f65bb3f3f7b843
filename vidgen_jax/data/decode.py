"""Reads video files, frame strips and single images. The content decides the format, not the file name."""

import bisect
import contextlib
import dataclasses
import functools
import itertools
import struct
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import av
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vidgen_jax.data.resampling import T, Timed, TimingError, resample
from vidgen_jax.data.transforms import FrameEncoding, resize
from vidgen_jax.errors import UserError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
"""Formats of strips and single frames."""

# Self-contained formats only: FFmpeg would also follow play lists to other files, and render plain text.
_VIDEO_FORMATS = "mov,mp4,avi,matroska,webm,gif,mpeg,mpegts,mpegvideo,flv,asf,ogg,m4v,h264,hevc"

# Tags may have any encoding, and are not used. PyAV 19 always replaces undecodable bytes and has no such option.
_LENIENT_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

DAMAGED_IMAGE_ERRORS = (
  *(OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError),
  *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""Exceptions that Pillow raises for damaged images, depending on format and damage."""


class UnreadableVideoError(Exception):
  """A file is not a usable video; the message is the reason that the manifest lists."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedVideo:
  """Resized and encoded frames of a video file.

  Attributes:
    frames: bytes of each encoded frame.
    fps: frames per second of `frames`; 0 if it is unknown.
    source_fps: mean frames per second of the file; 0 if it is unknown.
    height: height of `frames` in pixels.
    width: width of `frames` in pixels.
    source_height: height before resizing, in pixels.
    source_width: width before resizing, in pixels.
    cuts: for files with several clips, first index in `frames` of each clip but the first, ascending.
    parts: for files with parts, (first index in `frames`, index after the last) of each.
    damage: decoder's description of damage (missing or damaged frames) in a file that is still readable; '' for none.
  """

  frames: Sequence[bytes]
  fps: float
  source_fps: float
  height: int
  width: int
  source_height: int
  source_width: int
  cuts: Sequence[int] = ()
  parts: Sequence[Sequence[int]] = ()
  damage: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeOptions:
  """Conversion of the frames of a video.

  Attributes:
    size: smallest side of the result in pixels; 0 keeps the size.
    resize: how frames are resized to `size`, see `DataConfig.resize`.
    encoding: encoding of the resulting frames.
    stride: distance between the frames to keep, the first of which is frame 0; 1 if `fps` is set.
    fps: frames per second of the result, see `resample`; 0 keeps the frames of the file.
    source_fps: frames per second of images, strips and other files that do not contain it; 0 if unknown.
    threads: 'AUTO' decodes a video with several threads where its format allows it, 'NONE' with one.
  """

  size: int = 0
  resize: str = "smallest_side"
  encoding: FrameEncoding = dataclasses.field(default_factory=FrameEncoding)
  stride: int = 1
  fps: float = 0.0
  source_fps: float = 0.0
  threads: Literal["AUTO", "NONE"] = "AUTO"


def decode_video(file: BinaryIO, options: DecodeOptions, *, parts: Sequence[tuple[int, int]] = ()) -> DecodedVideo:
  """Decodes, resizes and encodes a whole file, with at most two decoded frames in memory at a time.

  The file is a video (mp4, avi, webm, gif, ...), or an image of square frames in a row or a column. `parts` are
  (first frame, frame after the last) in the file, and become those of the result.

  Raises:
    UnreadableVideoError: if the file is empty, corrupt, of unknown format, or an image that is no strip; if it is
      resampled, also if its frame rate is unknown or its times are damaged.
  """
  seen: list[tuple[float, int, bool]] = []
  kept: list[int] = []

  def frames() -> Iterator[Timed[_Frame]]:
    for frame in _frames(file, thread_type=options.threads, source_fps=options.source_fps):
      seen.append((frame.fps, frame.promised, frame.is_damaged))
      yield Timed(frame, frame.time, frame.duration, frame.fps)

  def images() -> Iterator[Image.Image]:
    image = None
    for index, frame in _kept(frames(), options):
      # Frames that are not kept are decoded but not converted to RGB, and repeated frames are converted once.
      image = frame.image() if image is None or index != kept[-1] else image
      kept.append(index)
      yield image

  decoded = encode_clips([images()], dataclasses.replace(options, stride=1, fps=0.0))
  (fps, promised, _), num_damaged = seen[-1], sum(is_damaged for _, _, is_damaged in seen)
  damage = [f"{len(seen)} of {promised} frames"] if len(seen) < promised else []
  damage += [f"{num_damaged} damaged"] if num_damaged else []
  return dataclasses.replace(
    decoded,
    fps=options.fps or fps / options.stride,
    source_fps=fps,
    parts=[[bisect.bisect_left(kept, border) for border in part] for part in parts],
    damage=", ".join(damage),
  )


def encode_clips(clips: Iterable[Iterable[Image.Image]], options: DecodeOptions) -> DecodedVideo:
  """Resizes and encodes the RGB frames of each clip of one file, with at most two frames in memory at a time.

  All frames must have one size; they follow each other at `options.source_fps`.

  Raises:
    UnreadableVideoError: if there are no frames, or they are resampled and their rate is unknown.
  """
  encoded, starts, original, stored = [], [], (0, 0), (0, 0)
  for clip in clips:
    starts.append(len(encoded))
    last = None
    for _, image in _kept((Timed(image, fps=options.source_fps) for image in clip), options):
      if image is last:  # A repeated frame.
        encoded.append(encoded[-1])
        continue
      last, original = image, image.size
      resized = resize(image, options.size, mode=options.resize) if options.size else image
      encoded.append(options.encoding.encode(resized))
      stored = resized.size
  if not encoded:
    raise UnreadableVideoError("no frames")
  return DecodedVideo(
    frames=encoded,
    fps=options.fps or options.source_fps / options.stride,
    source_fps=options.source_fps,
    height=stored[1],
    width=stored[0],
    source_height=original[1],
    source_width=original[0],
    cuts=starts[1:],
  )


def _kept(frames: Iterable[Timed[T]], options: DecodeOptions) -> Iterator[tuple[int, T]]:
  """(index, frame) of the frames to store, which may repeat."""
  if not options.fps:
    yield from ((index, timed.frame) for index, timed in itertools.islice(enumerate(frames), 0, None, options.stride))
    return
  try:
    yield from resample(frames, fps=options.fps)
  except TimingError as error:
    raise UnreadableVideoError(str(error)) from error


def same_size(images: Iterable[Any]) -> Iterator[Any]:
  """Yields objects with a 'size'; raises UnreadableVideoError if it changes."""
  size = None
  for index, image in enumerate(images):
    if size not in (None, image.size):
      raise UnreadableVideoError(f"the size changes from {size} to {image.size} after {index} frames")
    size = image.size
    yield image


class VideoFacts(NamedTuple):
  """Facts about a video or a strip."""

  num_frames: int
  height: int
  width: int
  fps: float
  """Mean frames per second; 0 if it is unknown, as for strips."""
  codec: str
  """Codec, or format of the image, such as 'h264' or 'png'."""


def measure_video(file: BinaryIO, *, stop: int | None = None) -> VideoFacts:
  """Counts the frames, at most `stop`, by decoding: containers may lack or misstate their number.

  Faster than `decode_video`, as nothing is converted to RGB. Raises UnreadableVideoError for damage before `stop`.
  """
  num_frames, (width, height), fps, codec = 0, (0, 0), 0.0, ""
  with contextlib.closing(_frames(file)) as frames:
    for frame in itertools.islice(frames, stop):
      num_frames, (width, height), fps, codec = num_frames + 1, frame.size, frame.fps, frame.codec
  return VideoFacts(num_frames, height, width, fps, codec)


def iterate_frames(file: BinaryIO, *, wanted: range) -> Iterator[Image.Image]:
  """Decodes the frames with these indices, ascending, to upright RGB images of one size, one at a time.

  Indices beyond the end of the file are ignored. Raises UnreadableVideoError for damage before the last wanted frame.
  """
  with contextlib.closing(_frames(file)) as frames:
    for frame in itertools.islice(frames, wanted.start, wanted[-1] + 1, wanted.step):
      yield frame.image()


class _Frame(NamedTuple):
  size: tuple[int, int]  # (width, height)
  fps: float
  image: Callable[[], Image.Image]
  is_damaged: bool = False
  promised: int = 0  # Number of frames according to the file; 0 if unknown.
  time: Fraction | None = None  # See `Timed`.
  duration: Fraction | None = None
  codec: str = ""


# One thread is faster for short videos and when several files are read at the same time.
def _frames(
  file: BinaryIO, *, thread_type: Literal["AUTO", "NONE"] = "NONE", source_fps: float = 0.0
) -> Generator[_Frame]:
  """Yields the frames of a video or a strip, all of one size."""
  if not file.read(1):
    raise UnreadableVideoError("empty file")
  file.seek(0)
  try:
    image = Image.open(file, formats=IMAGE_FORMATS)
    frames = _strip_frames(image, source_fps, num_pages=getattr(image, "n_frames", 1))
  except UnidentifiedImageError:
    file.seek(0)
    frames = _video_frames(file, thread_type, source_fps)
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {reason_of(error)}") from error
  yield from same_size(frames)


def _strip_frames(image: Image.Image, fps: float, *, num_pages: int) -> Generator[_Frame]:
  side, length = sorted(image.size)
  if num_pages > 1:
    raise UnreadableVideoError(f"animated or multi-page {image.format}, which is supported neither as video nor strip")
  if length % side:
    raise UnreadableVideoError(f"image of {image.width}x{image.height} is not a strip of square frames")
  codec, image = (image.format or "").lower(), to_rgb(image)
  for start in range(0, length, side):
    left, top = (start, 0) if image.width == length else (0, start)
    crop = functools.partial(image.crop, (left, top, left + side, top + side))
    yield _Frame((side, side), fps, crop, codec=codec)


def to_rgb(image: Image.Image) -> Image.Image:
  """Decodes an opened image to RGB; raises UnreadableVideoError if it is damaged or has more than 8 bits a channel."""
  if image.mode.startswith(("I", "F")):  # Pillow would clip their values.
    raise UnreadableVideoError(f"image of more than 8 bits a channel (mode {image.mode}); save it with 8 bits")
  try:
    return image.convert("RGB")
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {reason_of(error)}") from error


def _video_frames(file: BinaryIO, thread_type: Literal["AUTO", "NONE"], source_fps: float) -> Generator[_Frame]:
  try:
    with av.open(file, options={"format_whitelist": _VIDEO_FORMATS}, **_LENIENT_TAGS) as container:
      if not container.streams.video:
        raise UnreadableVideoError("no video stream")
      stream = container.streams.video[0]
      stream.thread_type = thread_type
      fps = float(stream.average_rate or stream.guessed_rate or source_fps)
      for frame in container.decode(stream):
        size = (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)
        image = functools.partial(_upright, frame)
        unit = frame.time_base
        time = None if frame.pts is None or unit is None else frame.pts * unit
        duration = frame.duration * unit if frame.duration and unit else None
        yield _Frame(size, fps, image, bool(frame.is_corrupt), stream.frames, time, duration, stream.codec.name)
  except (av.error.FFmpegError, EOFError) as error:
    raise UnreadableVideoError(f"corrupt or not a video: {reason_of(error)}") from error


def _upright(frame: av.VideoFrame) -> Image.Image:
  try:
    image = frame.to_image()
  except av.error.FFmpegError as error:
    raise UnreadableVideoError(f"frame cannot be converted to RGB: {reason_of(error)}") from error
  return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def reason_of(error: Exception) -> str:
  """Message of an error in one line, without error number and path, which the manifest contains already."""
  return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def read_image(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
  """Reads an image of any format that Pillow supports; of a file with several images, the first.

  The image is rotated as its EXIF orientation says, transparent parts are composited on white, and 16 bits per channel
  are reduced to 8 (65535 becomes 255).

  Returns:
    (image of mode RGB, descriptions of all changes beyond decoding).

  Raises:
    UserError: if the file is missing, damaged, not an image, or has values of unknown range.
  """
  try:
    with Image.open(path) as opened:
      count = getattr(opened, "n_frames", 1)
      changes = [f"the first of {count} images"] if count > 1 else []
      opened.load()
      if opened.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        changes.append("turned as its EXIF says")
      image, change = _image_to_rgb(ImageOps.exif_transpose(opened), path)
  except UnidentifiedImageError as error:
    raise UserError(f"{path} is no image of a known format; save it as PNG or JPEG") from error
  except DAMAGED_IMAGE_ERRORS as error:
    raise UserError(f"{path} cannot be read as an image: {reason_of(error)}") from error
  return image, (*changes, change) if change else tuple(changes)


def _image_to_rgb(image: Image.Image, path: Path) -> tuple[Image.Image, str]:
  """(image of mode RGB, description of the change or '')."""
  if image.mode == "F":
    raise UserError(f"{path} holds floating-point values of unknown range; save it with 8 or 16 bits")
  if image.mode.startswith("I"):
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
      raise UserError(f"{path} holds values from {values.min()} to {values.max()}; save it with 8 or 16 bits")
    # 65535 / 257 = 255.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB"), "16 bits reduced to 8"
  rgba = image.convert("RGBA")
  if rgba.getchannel("A").getextrema()[0] == 255:
    return image.convert("RGB"), ""
  white = Image.new("RGBA", image.size, "white")
  return Image.alpha_composite(white, rgba).convert("RGB"), "composited on white"
