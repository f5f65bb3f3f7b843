"""Trivial predictions from the conditioning frames, which a model has to outperform.

Each takes real clips and returns whole clips of the same shape that keep the conditioning frames. Conditioning frames
are given by 0-based indices in ascending order.
"""

from collections.abc import Sequence

import numpy as np

from vidgen_jax.ops.conditioning import generated_indices


def copy_last(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Each frame repeats the last conditioning frame before it, or the first one if there is none before it.

  Args:
    video: [B, T, H, W, C], any dtype; only the conditioning frames are read.
    conditioning_indices: at least one index.

  Returns:
    [B, T, H, W, C] of the same dtype.

  Raises:
    ValueError: if `video` is not [B, T, H, W, C], or there is no index, or an index is out of order or range.
  """
  conditioning = _checked(video, conditioning_indices, at_least=1)
  before = np.searchsorted(conditioning, np.arange(video.shape[1]), side="right") - 1
  return video[:, conditioning[np.maximum(before, 0)]]


def black(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Black frames: scores well on clips with a black background although the object is missing.

  Args:
    video: uint8[B, T, H, W, C]; only the conditioning frames are read.
    conditioning_indices: indices; may be empty.

  Returns:
    uint8[B, T, H, W, C].

  Raises:
    TypeError: if `video` is not uint8.
    ValueError: if `video` is not [B, T, H, W, C], or an index is out of order or range.
  """
  conditioning = _checked(video, conditioning_indices)
  _check_uint8(video, "black")
  clips = np.zeros_like(video)
  clips[:, conditioning] = video[:, conditioning]
  return clips


def noise(video: np.ndarray, conditioning_indices: Sequence[int], generator: np.random.Generator) -> np.ndarray:
  """Uniform noise in 0..255; arguments and errors as in `black`.

  Args:
    video: uint8[B, T, H, W, C].
    conditioning_indices: indices; may be empty.
    generator: source of the noise.
  """
  _checked(video, conditioning_indices)
  _check_uint8(video, "noise")
  generated = np.asarray(generated_indices(conditioning_indices, video.shape[1]), np.intp)
  clips = video.copy()
  clips[:, generated] = generator.integers(256, size=clips[:, generated].shape, dtype=np.uint8)
  return clips


def cross_fade(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Linear blend from each conditioning frame to the next (the trivial method of Inbetweening).

  Before the first conditioning frame, it repeats that one. After the last one, it blends into the true last frame of
  the clip, which a predictor does not know: there it is a reference, not a competitor.

  Args:
    video: uint8[B, T, H, W, C]; only the conditioning frames and the last frame are read.
    conditioning_indices: at least one index.

  Returns:
    uint8[B, T, H, W, C], rounded; the last frame is the true one.

  Raises:
    TypeError: if `video` is not uint8.
    ValueError: if `video` is not [B, T, H, W, C], or there is no index, or an index is out of order or range.
  """
  conditioning = _checked(video, conditioning_indices, at_least=1)
  _check_uint8(video, "cross_fade")
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

  Args:
    video: uint8[B, T, H, W, C]; only the conditioning frames are read.
    conditioning_indices: indices; may be empty.

  Returns:
    uint8[B, T, H, W, C].

  Raises:
    TypeError, ValueError: see the baselines.
  """
  if not len(conditioning_indices):
    return black(video, conditioning_indices)
  baseline = cross_fade if video.shape[1] - 1 in conditioning_indices else copy_last
  return baseline(video, conditioning_indices)


def _checked(video: np.ndarray, conditioning_indices: Sequence[int], *, at_least: int = 0) -> np.ndarray:
  """The indices as an array."""
  if video.ndim != 5:
    raise ValueError(f"baselines need [B, T, H, W, C], got shape {video.shape}")
  conditioning = np.asarray(conditioning_indices, np.intp)
  if len(conditioning) < at_least:
    raise ValueError(f"needs at least {at_least} conditioning frame(s), got {len(conditioning)}")
  if (np.diff(conditioning, prepend=-1) < 1).any() or (conditioning >= video.shape[1]).any():
    raise ValueError(
      f"conditioning frames {conditioning.tolist()} must ascend within the clips' {video.shape[1]} frames"
    )
  return conditioning


def _check_uint8(video: np.ndarray, name: str) -> None:
  if video.dtype != np.uint8:
    raise TypeError(f"{name} needs uint8 video, got {video.dtype}")
