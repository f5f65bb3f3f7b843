"""Cuts videos into clips."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from vidgen_jax.data.build_options import VideoBuildOptions
from vidgen_jax.data.listing import SourceFile


class ClipRange(NamedTuple):
  """Position of a clip within the stored frames of a video."""

  source: str
  """Path of the video and, for files with several clips, the index of the clip."""
  start: int
  """First frame."""
  stop: int
  """Frame after the last."""


def clips_of(file: SourceFile, num_frames: int, cuts: Sequence[int], options: VideoBuildOptions) -> list[ClipRange]:
  """Cuts each part of a video into clips, up to the end of its stored frames; `cuts` are those of `DecodedVideo`."""
  if file.clips is not None:
    borders = [0, *cuts, num_frames]
    pieces = [(f"{file.path}[{file.clips[0] + i}]", *pair) for i, pair in enumerate(itertools.pairwise(borders))]
  else:
    # Parts count all frames; stored are frames 0, stride, 2 stride, ... of the whole video.
    pieces = [(file.path, -(-first // options.stride), -(-last // options.stride)) for first, last in file.parts]
  ranges = []
  for source, first, last in pieces or [(file.path, 0, num_frames)]:
    length = min(last, num_frames) - first
    if length >= max(options.min_frames, options.clip_frames):
      cut = clip_ranges(length, options.clip_frames)
      ranges += [ClipRange(source, first + start, first + stop) for start, stop in cut]
  return ranges


def clip_ranges(num_frames: int, clip_frames: int) -> list[tuple[int, int]]:
  """(first frame, frame after the last) of each clip of a video, without the rest; `clip_frames` 0 does not cut."""
  if not clip_frames:
    return [(0, num_frames)]
  return [(start, start + clip_frames) for start in range(0, num_frames - clip_frames + 1, clip_frames)]
