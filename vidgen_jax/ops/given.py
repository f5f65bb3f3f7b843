"""Which frames of a clip are given and which are generated, by their 0-based indices in the clip."""

from collections.abc import Sequence

import numpy as np


def generated_frames(given_frames: Sequence[int], num_frames: int) -> tuple[int, ...]:
  """The frames that are not given.

  Args:
    given_frames: indices in 0..num_frames - 1.
    num_frames: T, length of the whole clip.

  Returns:
    Indices in ascending order; () where all frames are given.
  """
  return tuple(sorted(set(range(num_frames)) - set(given_frames)))


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


def frames_needed(given_frames: Sequence[int]) -> int:
  """How far a clip must be read: to its last given frame, and one frame where none is given."""
  return max(given_frames, default=0) + 1


def are_leading(given_frames: Sequence[int]) -> bool:
  """Whether the given frames are the first ones, without a gap; so they are where there are none."""
  return tuple(given_frames) == tuple(range(len(given_frames)))
