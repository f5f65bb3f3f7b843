"""Reads video files, frame strips and single images. The content decides the format, not the file name."""

import bisect
import contextlib
import dataclasses
import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import BinaryIO, NamedTuple

from absl import logging
from PIL import Image, UnidentifiedImageError

from vidgen_jax.data.resampling import T, Timed, TimingError, irregularity, resample
from vidgen_jax.data.source_frames import Footage, Frame, UnreadableVideoError, reason_of, same_size
from vidgen_jax.data.still_images import DAMAGED_IMAGE_ERRORS, IMAGE_FORMATS, image_frames
from vidgen_jax.data.transforms import FrameEncoding, resize
from vidgen_jax.data.video_stream import Threads, video_frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedVideo:
  """Resized and encoded frames of a video file.

  Attributes:
    frames: bytes of each encoded frame.
    fps: frames per second of `frames`; 0 if it is unknown.
    source_fps: mean frames per second of the file; 0 if it is unknown.
    height: height of `frames` in pixels.
    width: width of `frames` in pixels.
    source_height: height before resizing, upright and with square pixels.
    source_width: width before resizing, upright and with square pixels.
    cuts: for files with several clips, first index in `frames` of each clip but the first, ascending.
    parts: for files with parts, (first index in `frames`, index after the last) of each.
    damage: description of damage in a file that is still readable (missing or damaged frames, times that jump); ''
      for none.
    variable_rate: range of the time between frames of the file if it is not constant, see `irregularity`; else ''.
    conversions: see `Footage.conversions`.
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
  variable_rate: str = ""
  conversions: Mapping[str, str] = dataclasses.field(default_factory=dict)


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
  threads: Threads = "AUTO"


def decode_video(file: BinaryIO, options: DecodeOptions, *, parts: Sequence[tuple[int, int]] = ()) -> DecodedVideo:
  """Decodes, resizes and encodes a whole file, with at most two decoded frames in memory at a time.

  The file is a video (mp4, avi, webm, gif, ...), or an image of square frames in a row or a column. `parts` are
  (first frame, frame after the last) in the file, and become those of the result.

  Raises:
    UnreadableVideoError: if the file is empty, corrupt, of unknown format, or an image that is no strip; if it is
      resampled, also if its frame rate is unknown or its times are damaged.
  """
  times: list[Fraction | None] = []
  footage, num_damaged, kept = Footage(fps=0.0, codec=""), 0, []

  def frames() -> Iterator[Timed[Frame]]:
    nonlocal footage, num_damaged
    for frame in _frames(file, thread_type=options.threads, source_fps=options.source_fps):
      times.append(frame.time)
      footage, num_damaged = frame.footage, num_damaged + frame.is_damaged
      yield Timed(frame, frame.time, frame.duration, footage.fps)

  def images() -> Iterator[Image.Image]:
    image = None
    for index, frame in _kept(frames(), options):
      # Frames that are not kept are decoded but not converted to RGB, and repeated frames are converted once.
      image = frame.image() if image is None or index != kept[-1] else image
      kept.append(index)
      yield image

  decoded = encode_clips([images()], dataclasses.replace(options, stride=1, fps=0.0))
  variable_rate, jump = irregularity(times, fps=footage.fps, tick=footage.tick)
  damage = [f"{len(times)} of {footage.promised} frames"] if len(times) < footage.promised else []
  damage += [f"{num_damaged} damaged"] if num_damaged else []
  return dataclasses.replace(
    decoded,
    fps=options.fps or footage.fps / options.stride,
    source_fps=footage.fps,
    parts=[[bisect.bisect_left(kept, border) for border in part] for part in parts],
    damage=", ".join([*damage, jump] if jump else damage),
    variable_rate=variable_rate,
    conversions=footage.conversions,
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

  Faster than `decode_video`, as nothing is converted to RGB. Logs a variable frame rate. Raises UnreadableVideoError
  for damage before `stop`.
  """
  times, frame = [], None
  with contextlib.closing(_frames(file)) as frames:
    for frame in itertools.islice(frames, stop):
      times.append(frame.time)
  if frame is None:
    return VideoFacts(0, 0, 0, 0.0, "")
  notes = irregularity(times, fps=frame.footage.fps, tick=frame.footage.tick)
  for kind, note in zip(("variable frame rate", "damaged times"), notes, strict=True):
    if note:
      logging.warning("%s: %s, %s", getattr(file, "name", "video"), kind, note)
  return VideoFacts(len(times), frame.size[1], frame.size[0], frame.footage.fps, frame.footage.codec)


def iterate_frames(file: BinaryIO, *, wanted: range) -> Iterator[Image.Image]:
  """Decodes the frames with these indices, ascending, to upright RGB images of one size, one at a time.

  Indices beyond the end of the file are ignored. Raises UnreadableVideoError for damage before the last wanted frame.
  """
  with contextlib.closing(_frames(file)) as frames:
    for frame in itertools.islice(frames, wanted.start, wanted[-1] + 1, wanted.step):
      yield frame.image()


# One thread is faster for short videos and when several files are read at the same time.
def _frames(file: BinaryIO, *, thread_type: Threads = "NONE", source_fps: float = 0.0) -> Generator[Frame]:
  """Yields the frames of a video or a strip, all of one size."""
  if not file.read(1):
    raise UnreadableVideoError("empty file")
  file.seek(0)
  try:
    frames = image_frames(Image.open(file, formats=IMAGE_FORMATS), source_fps)
  except UnidentifiedImageError:
    frames = video_frames(file, thread_type=thread_type, source_fps=source_fps)
  except DAMAGED_IMAGE_ERRORS as error:
    raise UnreadableVideoError(f"corrupt image: {reason_of(error)}") from error
  yield from same_size(frames)
