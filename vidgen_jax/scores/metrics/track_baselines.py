"""Baselines that predict the position of an object from the conditioning frames: straight lines at constant speed.

They predict positions, not images, so they have a centroid error and no PSNR. Each takes the true track, which it reads
in the conditioning frames only, and their 0-based indices in ascending order, and returns a track of as many frames.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vidgen_jax.ops.conditioning import are_leading, generated_indices
from vidgen_jax.scores.metrics.trajectory import Track


def linear_extrapolation(track: Track, conditioning_indices: Sequence[int]) -> Track:
  """Continues with the velocity between the last two of the conditioning frames 0..G - 1, G >= 2.

  If the object is missing in one of these two, it is missing in all generated frames.
  """
  before, last = conditioning_indices[-2:]
  ahead = jnp.arange(1, track.presence.shape[1] - last, dtype=jnp.float32)[None, :, None]
  velocity = track.centroid[:, last] - track.centroid[:, before]
  centroid = track.centroid[:, last, None] + ahead * velocity[:, None]
  presence = jnp.broadcast_to(track.presence[:, last, None] & track.presence[:, before, None], centroid.shape[:2])
  return Track(
    jnp.concatenate([track.centroid[:, : last + 1], centroid], axis=1),
    jnp.concatenate([track.presence[:, : last + 1], presence], axis=1),
  )


def linear_interpolation(track: Track, conditioning_indices: Sequence[int]) -> Track:
  """Moves on a straight line from each conditioning frame to the next; before the first and after the last, it stays.

  Between two conditioning frames, the object is missing if it is missing in either of them.
  """
  conditioning = np.asarray(conditioning_indices, np.intp)
  frames = np.arange(track.presence.shape[1])
  left = conditioning[np.maximum(np.searchsorted(conditioning, frames, side="right") - 1, 0)]
  right = conditioning[np.minimum(np.searchsorted(conditioning, frames), len(conditioning) - 1)]
  # In a conditioning frame, and outside of their range, left equals right.
  share = ((frames - left) / np.maximum(right - left, 1) * (left != right)).astype(np.float32)[None, :, None]
  return Track(
    (1.0 - share) * track.centroid[:, left] + share * track.centroid[:, right],
    track.presence[:, left] & track.presence[:, right],
  )


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
  if any(conditioning[0] < frame < conditioning[-1] for frame in generated):
    return {"linear_interpolation": linear_interpolation(track, conditioning)}
  return {}
