"""Trivial predictions from the conditioning frames, which a model has to outperform.

Those of clips take real clips uint8[B, T, H, W, C] and return whole clips of the same shape that keep the conditioning
frames. Those of positions have a centroid error and no PSNR: they take an object's track, which they read in the
conditioning frames only, and return a track of as many frames. All take 0-based indices in ascending order.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from vidgen_jax.ops.conditioning import are_leading, generated_indices, put_frames, take_frames
from vidgen_jax.ops.frame_interpolation import interpolate_frames
from vidgen_jax.ops.optical_flow import FlowEstimator
from vidgen_jax.ops.video import to_model_range, to_uint8
from vidgen_jax.scores.metrics.trajectory import Track


def copy_last(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Repeats the last conditioning frame before each frame, or the first one; needs at least one."""
  left, _, _ = _neighbours(conditioning_indices, video.shape[1])
  return video[:, left]


def black(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Black frames; on clips with a black background they score well although the object is missing."""
  return put_frames(np.zeros_like(video), take_frames(video, conditioning_indices), conditioning_indices)


def noise(video: np.ndarray, conditioning_indices: Sequence[int], generator: np.random.Generator) -> np.ndarray:
  """Frames of uniform noise in 0..255."""
  generated = generated_indices(conditioning_indices, video.shape[1])
  pixels = generator.integers(256, size=take_frames(video, generated).shape, dtype=np.uint8)
  return put_frames(video, pixels, generated)


def cross_fade(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Blends linearly from each conditioning frame to the next (the trivial method of Inbetweening); needs at least one.

  Before the first conditioning frame, it repeats that one. After the last one, it blends into the true last frame of
  the clip, which a predictor does not know: there it is a reference, not a competitor.
  """
  num_frames = video.shape[1]
  left, right, share = _neighbours(np.union1d(conditioning_indices, num_frames - 1), num_frames)
  share = share[:, None, None, None]
  first, last = (video[:, keys].astype(np.float32) for keys in (left, right))
  return np.rint((1 - share) * first + share * last).astype(np.uint8)


def flow_interpolation(video: np.ndarray, conditioning_indices: Sequence[int], estimate: FlowEstimator) -> np.ndarray:
  """Moves the content of each conditioning frame to the next along the optical flow; see `interpolate_frames`.

  Before the first conditioning frame and after the last one, it repeats that one.
  """
  result = copy_last(video, conditioning_indices)
  _, _, share = _neighbours(conditioning_indices, video.shape[1])
  for first, last in itertools.pairwise(conditioning_indices):
    if last - first > 1:
      ends = to_model_range(video[:, first]), to_model_range(video[:, last])
      flows = estimate(*ends), estimate(*reversed(ends))
      result[:, first + 1 : last] = to_uint8(interpolate_frames(*ends, *flows, share[first + 1 : last]))
  return result


def has_frames_between(conditioning_indices: Sequence[int], num_frames: int) -> bool:
  """Whether generated frames are between conditioning frames."""
  between = range(min(conditioning_indices, default=0), max(conditioning_indices, default=0))
  return any(frame in between for frame in generated_indices(conditioning_indices, num_frames))


def simplest_guess(video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """The natural trivial prediction to show next to a model's, which uses nothing but the conditioning frames.

  A cross-fade if the last frame of the clip is a conditioning frame, otherwise copies of the last conditioning frame,
  and black clips without conditioning frames.
  """
  if not len(conditioning_indices):
    return black(video, conditioning_indices)
  baseline = cross_fade if video.shape[1] - 1 in conditioning_indices else copy_last
  return baseline(video, conditioning_indices)


def track_baselines(track: Track, conditioning_indices: Sequence[int]) -> dict[str, Track]:
  """The straight-line prediction that fits the conditioning frames.

  'linear_extrapolation' for two or more leading conditioning frames and no others, 'linear_interpolation' where
  generated frames are between conditioning frames; {} otherwise.
  """
  conditioning = tuple(conditioning_indices)
  generated = generated_indices(conditioning, track.presence.shape[1])
  if len(conditioning) < 2 or not generated:
    return {}
  if are_leading(conditioning):
    return {"linear_extrapolation": linear_extrapolation(track, conditioning)}
  if has_frames_between(conditioning, track.presence.shape[1]):
    return {"linear_interpolation": linear_interpolation(track, conditioning)}
  return {}


def linear_extrapolation(track: Track, conditioning_indices: Sequence[int]) -> Track:
  """Continues with the velocity between the last two of the conditioning frames 0..G - 1, G >= 2.

  If the object is missing in one of these two, it is missing in all generated frames.
  """
  before, last = conditioning_indices[-2:]
  frames = np.arange(track.presence.shape[1])
  known, ahead = np.minimum(frames, last), np.maximum(frames - last, 0).astype(np.float32)
  velocity = track.centroid[:, last] - track.centroid[:, before]
  return Track(
    track.centroid[:, known] + ahead[None, :, None] * velocity[:, None],
    track.presence[:, known] & (track.presence[:, before, None] | (frames <= last)[None]),
  )


def linear_interpolation(track: Track, conditioning_indices: Sequence[int]) -> Track:
  """Moves on a straight line from each conditioning frame to the next; before the first and after the last, it stays.

  Between two conditioning frames, the object is missing if it is missing in either of them.
  """
  left, right, share = _neighbours(conditioning_indices, track.presence.shape[1])
  share = share[None, :, None]
  return Track(
    (1.0 - share) * track.centroid[:, left] + share * track.centroid[:, right],
    track.presence[:, left] & track.presence[:, right],
  )


def _neighbours(keys: Sequence[int] | np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The nearest keys at or before and at or after each frame, and its share of the way between them, float32[T].

  Before the first key and after the last one, both are that key.
  """
  keys, frames = np.asarray(keys), np.arange(num_frames)
  left = keys[np.maximum(np.searchsorted(keys, frames, side="right") - 1, 0)]
  right = keys[np.minimum(np.searchsorted(keys, frames), len(keys) - 1)]
  share = (frames - left) / np.maximum(right - left, 1) * (left != right)
  return left, right, share.astype(np.float32)
