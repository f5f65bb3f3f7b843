"""Which frames of a clip are given and which are generated, by their 0-based indices in the clip."""

from collections.abc import Sequence

import numpy as np


def generated_indices(conditioning_indices: Sequence[int], num_frames: int) -> tuple[int, ...]:
  """The frames that are not given.

  Args:
    conditioning_indices: indices in 0..num_frames - 1.
    num_frames: T, length of the whole clip.

  Returns:
    Indices in ascending order; () where all frames are given.
  """
  return tuple(sorted(set(range(num_frames)) - set(conditioning_indices)))


def take_frames(video: np.ndarray, frames: Sequence[int]) -> np.ndarray:
  """Some frames of whole clips.

  Args:
    video: [..., T, H, W, C], of any dtype.
    frames: G indices in 0..T - 1; may be none.

  Returns:
    [..., G, H, W, C], a copy, in the order of `frames`.
  """
  return np.take(video, np.asarray(frames, np.intp), axis=-4)


def put_frames(video: np.ndarray, frames: np.ndarray, places: Sequence[int]) -> np.ndarray:
  """Whole clips in which some frames are replaced.

  Args:
    video: [..., T, H, W, C], of any dtype.
    frames: [..., G, H, W, C], of the same.
    places: G indices in 0..T - 1, different; may be none.

  Returns:
    [..., T, H, W, C], a copy.
  """
  result = video.copy()
  result[..., np.asarray(places, np.intp), :, :, :] = frames
  return result


def frames_needed(conditioning_indices: Sequence[int]) -> int:
  """How far a clip must be read: to its last conditioning frame, and one frame where none is given."""
  return max(conditioning_indices, default=0) + 1


def are_leading(conditioning_indices: Sequence[int]) -> bool:
  """Whether the conditioning frames are the first ones, without a gap; so they are where there are none."""
  return tuple(conditioning_indices) == tuple(range(len(conditioning_indices)))
