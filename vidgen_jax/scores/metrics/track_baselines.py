"""Where those put an object who only know its place in the conditioning frames: on a straight line, at constant speed.

There is no image, only a place, so these baselines have a centroid error and no PSNR.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vidgen_jax.ops.conditioning import are_leading, generated_indices
from vidgen_jax.scores.metrics.trajectory import CentroidScore, Track, compare_tracks, object_centroid


def linear_extrapolation(track: Track, conditioning_indices: Sequence[int]) -> Track:
  """Lets the object go on with the velocity of the last two conditioning frames.

  Args:
    track: of T frames; only the given ones are looked at.
    conditioning_indices: 0..G - 1, the leading frames, with 2 <= G.

  Returns:
    A `Track` of T frames, as it was in the given ones. An object that is missing in either of the last two conditioning frames
    is missing in all that follow.

  Raises:
    ValueError: if fewer than two frames are given, or they are not the leading ones.
  """
  conditioning = list(conditioning_indices)
  if len(conditioning) < 2 or not are_leading(conditioning):
    raise ValueError(f"linear_extrapolation needs at least 2 leading conditioning frames, got {conditioning}")
  before, last = conditioning[-2:]
  ahead = jnp.arange(1, track.presence.shape[1] - last, dtype=jnp.float32)[None, :, None]
  velocity = track.centroid[:, last] - track.centroid[:, before]
  follows = track.centroid[:, last, None] + ahead * velocity[:, None]
  known = track.presence[:, last, None] & track.presence[:, before, None]
  return Track(
    jnp.concatenate([track.centroid[:, : last + 1], follows], axis=1),
    jnp.concatenate([track.presence[:, : last + 1], jnp.broadcast_to(known, follows.shape[:2])], axis=1),
  )


def linear_interpolation(track: Track, conditioning_indices: Sequence[int]) -> Track:
  """Leads the object from each conditioning frame to the next on a straight line; outside of them it stands still.

  Args:
    track: of T frames; only the given ones are looked at.
    conditioning_indices: at least one index, in ascending order.

  Returns:
    A `Track` of T frames, as it was in the given ones. An object that is missing in either of two neighbouring given
    frames is missing in all frames between them.

  Raises:
    ValueError: if no frame is given.
  """
  conditioning = np.asarray(conditioning_indices, np.intp)
  if not len(conditioning):
    raise ValueError("linear_interpolation needs at least 1 conditioning frame")
  frames = np.arange(track.presence.shape[1])
  left = conditioning[np.maximum(np.searchsorted(conditioning, frames, side="right") - 1, 0)]
  right = conditioning[np.minimum(np.searchsorted(conditioning, frames), len(conditioning) - 1)]
  # Of a conditioning frame, and of one outside of them, both neighbours are the same.
  share = ((frames - left) / np.maximum(right - left, 1) * (left != right)).astype(np.float32)[None, :, None]
  return Track(
    (1.0 - share) * track.centroid[:, left] + share * track.centroid[:, right],
    track.presence[:, left] & track.presence[:, right],
  )


def track_scores(video: np.ndarray, conditioning_indices: Sequence[int]) -> dict[str, CentroidScore]:
  """Scores, on the generated frames, of the baselines that make sense for these conditioning frames.

  Args:
    video: uint8[B, T, H, W, C], real clips.
    conditioning_indices: 0-based indices in ascending order.

  Returns:
    'linear_extrapolation' where at least two leading frames are given and no others, 'linear_interpolation' where
    generated frames lie between given ones, nothing in all other cases. Each field is float32[B].

  Raises:
    TypeError, ValueError: see `object_centroid`.
  """
  num_frames, conditioning = video.shape[1], tuple(conditioning_indices)
  generated = generated_indices(conditioning, num_frames)
  if len(conditioning) < 2 or not generated:
    return {}
  if are_leading(conditioning):
    name, guess = "linear_extrapolation", linear_extrapolation
  elif any(conditioning[0] < frame < conditioning[-1] for frame in generated):
    name, guess = "linear_interpolation", linear_interpolation
  else:
    return {}
  truth = object_centroid(video)
  scored = np.asarray(generated, np.intp)
  predicted, true = (Track(t.centroid[:, scored], t.presence[:, scored]) for t in (guess(truth, conditioning), truth))
  return {name: compare_tracks(predicted, true, frame_size=video.shape[2:4])}
