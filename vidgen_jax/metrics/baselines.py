"""What a predictor must beat: it knows the conditioning frames and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.metrics.trajectory import CentroidScore, Track, compare_tracks, object_centroid


def copy_last(conditioning: np.ndarray, num_frames: int) -> np.ndarray:
  """Repeats the last conditioning frame.

  Args:
    conditioning: [B, T, H, W, C] with T >= 1, of any dtype.
    num_frames: frames to predict.

  Returns:
    [B, num_frames, H, W, C] of the same dtype.

  Raises:
    ValueError: if there is no conditioning frame or `num_frames` < 1.
  """
  _check(conditioning, num_frames, at_least=1)
  return np.repeat(np.asarray(conditioning)[:, -1:], num_frames, axis=1)


def black(conditioning: np.ndarray, num_frames: int) -> np.ndarray:
  """All-black frames: what a model shows that has forgotten the object; on a black ground it scores well in PSNR.

  Args:
    conditioning: uint8[B, T, H, W, C]; only its shape is used.
    num_frames: frames to predict.

  Returns:
    uint8[B, num_frames, H, W, C], zeros.

  Raises:
    TypeError: if `conditioning` is not uint8, where 0 might not be black.
    ValueError: if there is no conditioning frame or `num_frames` < 1.
  """
  _check(conditioning, num_frames, at_least=1)
  if conditioning.dtype != np.uint8:
    raise TypeError(f"black needs uint8 video, got {conditioning.dtype}")
  return np.zeros((conditioning.shape[0], num_frames, *conditioning.shape[2:]), np.uint8)


def cross_fade(conditioning: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Blends the last conditioning frame linearly into the clip's last frame (the trivial inbetweening, paper 000).

  It knows the last frame, which a predictor does not: beside predictions it is no competitor but a yardstick.

  Args:
    conditioning: uint8[B, Tc, H, W, C] with Tc >= 1.
    truth: uint8[B, T, H, W, C], the frames that follow; only the last is looked at.

  Returns:
    uint8[B, T, H, W, C], rounded; the last frame is the true one.

  Raises:
    TypeError: if the videos are not uint8.
    ValueError: if there is no conditioning frame or none that follows.
  """
  _check(conditioning, truth.shape[1], at_least=1)
  if conditioning.dtype != np.uint8 or truth.dtype != np.uint8:
    raise TypeError(f"cross_fade needs uint8 video, got {conditioning.dtype} and {truth.dtype}")
  first, last = (frame.astype(np.float32)[:, None] for frame in (conditioning[:, -1], truth[:, -1]))
  share = (np.arange(1, truth.shape[1] + 1, dtype=np.float32) / truth.shape[1]).reshape(1, -1, 1, 1, 1)
  return np.rint((1.0 - share) * first + share * last).astype(np.uint8)


def linear_extrapolation_centroid(conditioning: jax.typing.ArrayLike, num_frames: int) -> Track:
  """Lets the object go on with the velocity of the last two conditioning frames.

  There is no picture, only a place, so this baseline has a centroid error and no PSNR.

  Args:
    conditioning: uint8[B, T, H, W, C] with T >= 2.
    num_frames: frames to predict.

  Returns:
    A `Track` of num_frames frames. An object that is missing in either of the two frames is missing in all of them.

  Raises:
    ValueError: if there are fewer than two conditioning frames or `num_frames` < 1.
  """
  _check(conditioning, num_frames, at_least=2)
  track = object_centroid(conditioning[:, -2:])
  last = track.centroid[:, 1:]
  velocity = last - track.centroid[:, :1]
  ahead = jnp.arange(1, num_frames + 1, dtype=jnp.float32)[None, :, None]
  presence = jnp.repeat(track.presence.all(axis=1, keepdims=True), num_frames, axis=1)
  return Track(last + ahead * velocity, presence)


def linear_extrapolation_error(conditioning: jax.typing.ArrayLike, truth: jax.typing.ArrayLike) -> CentroidScore:
  """Scores `linear_extrapolation_centroid` against the frames that followed.

  Args:
    conditioning: uint8[B, Tc, H, W, C] with Tc >= 2.
    truth: uint8[B, T, H, W, C].

  Returns:
    A `CentroidScore`, each field float32[B].

  Raises:
    TypeError, ValueError: see `linear_extrapolation_centroid` and `object_centroid`.
  """
  predicted = linear_extrapolation_centroid(conditioning, truth.shape[1])
  return compare_tracks(predicted, object_centroid(truth), frame_size=truth.shape[2:4])


def _check(conditioning: jax.typing.ArrayLike, num_frames: int, *, at_least: int) -> None:
  if conditioning.ndim != 5 or conditioning.shape[1] < at_least:
    raise ValueError(f"needs [B, T, H, W, C] with at least {at_least} frame(s), got shape {conditioning.shape}")
  if num_frames < 1:
    raise ValueError(f"num_frames must be at least 1, got {num_frames=}")
