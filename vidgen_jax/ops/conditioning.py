"""Conditioning and generated frames of a clip, by their 0-based indices."""

from collections.abc import Sequence

import numpy as np


def generated_indices(conditioning_indices: Sequence[int], num_frames: int) -> tuple[int, ...]:
  """Indices of the generated frames of a clip of `num_frames` frames, in ascending order."""
  return tuple(sorted(set(range(num_frames)) - set(conditioning_indices)))


def take_frames(video: np.ndarray, frames: Sequence[int]) -> np.ndarray:
  """A copy of the frames [..., G, H, W, C] with the given G indices of clips [..., T, H, W, C], in that order."""
  return np.take(video, np.asarray(frames, np.intp), axis=-4)


def put_frames(video: np.ndarray, frames: np.ndarray, indices: Sequence[int]) -> np.ndarray:
  """A copy of clips [..., T, H, W, C] with `frames`, [..., G, H, W, C], in place of those of the G distinct indices."""
  result = video.copy()
  result[..., np.asarray(indices, np.intp), :, :, :] = frames
  return result


def frames_needed(conditioning_indices: Sequence[int]) -> int:
  """Number of leading frames that contain all conditioning frames; at least 1."""
  return max(conditioning_indices, default=0) + 1


def are_leading(conditioning_indices: Sequence[int]) -> bool:
  """Whether the conditioning frames are the first frames of the clip; True if there are none."""
  return tuple(conditioning_indices) == tuple(range(len(conditioning_indices)))
