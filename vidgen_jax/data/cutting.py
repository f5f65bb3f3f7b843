"""Where videos are cut into clips."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vidgen_jax.data.listing import SourceFile


@dataclass(frozen=True, kw_only=True)
class CutOptions:
  """How videos are cut.

  Attributes:
    min_frames: a shorter piece is left out.
    clip_frames: cuts a piece into clips of that many frames and drops the rest; 0 keeps it as one clip.
    stride: of the frames that are stored of a video.
  """

  min_frames: int = 1
  clip_frames: int = 0
  stride: int = 1


class ClipRange(NamedTuple):
  """A clip within the frames of a video."""

  source: str
  """Where it is from: the path of the video and, of many clips in a file, its number."""
  start: int
  """First frame."""
  stop: int
  """The frame behind the last."""


def clips_of(file: SourceFile, num_frames: int, cuts: Sequence[int], options: CutOptions) -> list[ClipRange]:
  """Every clip of a video: its parts, as far as it goes, each cut by itself.

  Args:
    file: the video.
    num_frames: that are stored of it.
    cuts: see `DecodedVideo`.
    options: say how parts are cut, and how long they must be.
  """
  if file.clips is not None:
    borders = [0, *cuts, num_frames]
    pieces = [(f"{file.path}[{file.clips[0] + i}]", *pair) for i, pair in enumerate(itertools.pairwise(borders))]
  else:
    # Of the parts every so many-th frame is stored, counted from the beginning of the video.
    pieces = [(file.path, -(-first // options.stride), -(-last // options.stride)) for first, last in file.parts]
  ranges = []
  for source, first, last in pieces or [(file.path, 0, num_frames)]:
    length = min(last, num_frames) - first
    if length >= max(options.min_frames, options.clip_frames):
      cut = clip_ranges(length, options.clip_frames)
      ranges += [ClipRange(source, first + start, first + stop) for start, stop in cut]
  return ranges


def clip_ranges(num_frames: int, clip_frames: int) -> list[tuple[int, int]]:
  """Where a video is cut: (first frame, frame after the last) of each clip.

  Args:
    num_frames: frames of the video.
    clip_frames: frames of a clip; what is left over is dropped. 0: the video is one clip.
  """
  if not clip_frames:
    return [(0, num_frames)]
  return [(start, start + clip_frames) for start in range(0, num_frames - clip_frames + 1, clip_frames)]
