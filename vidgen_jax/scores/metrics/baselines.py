"""Trivial predictions from the conditioning frames, which a model has to outperform.

Each takes real clips uint8[B, T, H, W, C] and the 0-based indices of their conditioning frames in ascending order, and
returns whole clips of the same shape that keep the conditioning frames. All raise TypeError if the video is not uint8,
and ValueError for another shape, too few indices, or an index that is out of order or range.
"""

from collections.abc import Sequence

import numpy as np

from vidgen_jax.ops.conditioning import generated_indices


def copy_last(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Repeats the last conditioning frame before each frame, or the first one; needs at least one."""
  conditioning = _checked(video, conditioning_indices, at_least=1)
  before = np.searchsorted(conditioning, np.arange(video.shape[1]), side="right") - 1
  return video[:, conditioning[np.maximum(before, 0)]]


def black(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Black frames; on clips with a black background they score well although the object is missing."""
  conditioning = _checked(video, conditioning_indices)
  clips = np.zeros_like(video)
  clips[:, conditioning] = video[:, conditioning]
  return clips


def noise(video: np.ndarray, conditioning_indices: Sequence[int], generator: np.random.Generator) -> np.ndarray:
  """Frames of uniform noise in 0..255."""
  _checked(video, conditioning_indices)
  generated = np.asarray(generated_indices(conditioning_indices, video.shape[1]), np.intp)
  clips = video.copy()
  clips[:, generated] = generator.integers(256, size=clips[:, generated].shape, dtype=np.uint8)
  return clips


def cross_fade(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Blends linearly from each conditioning frame to the next (the trivial method of Inbetweening); needs at least one.

  Before the first conditioning frame, it repeats that one. After the last one, it blends into the true last frame of
  the clip, which a predictor does not know: there it is a reference, not a competitor.
  """
  conditioning = _checked(video, conditioning_indices, at_least=1)
  num_frames = video.shape[1]
  keys = np.union1d(conditioning, num_frames - 1)

  def blend(frame: int) -> np.ndarray:
    following = int(np.searchsorted(keys, frame))
    if keys[following] == frame or following == 0:
      return video[:, keys[following]]
    left, right = (int(key) for key in keys[following - 1 : following + 1])
    share = np.float32(frame - left) / np.float32(right - left)
    first, last = (video[:, key].astype(np.float32) for key in (left, right))
    return np.rint((np.float32(1) - share) * first + share * last).astype(np.uint8)

  return np.stack([blend(frame) for frame in range(num_frames)], axis=1)


def simplest_guess(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """The natural trivial prediction to show next to a model's, which uses nothing but the conditioning frames.

  A cross-fade if the last frame of the clip is a conditioning frame, otherwise copies of the last conditioning frame,
  and black clips without conditioning frames.
  """
  if not len(conditioning_indices):
    return black(video, conditioning_indices)
  baseline = cross_fade if video.shape[1] - 1 in conditioning_indices else copy_last
  return baseline(video, conditioning_indices)


def _checked(video: np.ndarray, conditioning_indices: Sequence[int], *, at_least: int = 0) -> np.ndarray:
  """The indices as an array."""
  if video.ndim != 5:
    raise ValueError(f"baselines need [B, T, H, W, C], got shape {video.shape}")
  if video.dtype != np.uint8:
    raise TypeError(f"baselines need uint8 video, got {video.dtype}")
  conditioning = np.asarray(conditioning_indices, np.intp)
  if len(conditioning) < at_least:
    raise ValueError(f"needs at least {at_least} conditioning frame(s), got {len(conditioning)}")
  if (np.diff(conditioning, prepend=-1) < 1).any() or (conditioning >= video.shape[1]).any():
    raise ValueError(
      f"conditioning frames {conditioning.tolist()} must ascend within the clips' {video.shape[1]} frames"
    )
  return conditioning
