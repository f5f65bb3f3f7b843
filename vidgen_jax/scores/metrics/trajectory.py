"""Where the one bright object of a clip is, and how far a prediction puts it from the truth.

For data with a single object on a black ground (Shape Motion). A pixel's brightness is the largest of its channels, so
that a pure blue object counts as much as a white one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

PRESENCE_THRESHOLD = 0.1
"""Brightness, on [0, 1], that a pixel must reach to belong to an object."""

PEAK_FRACTION = 0.25
"""A pixel must also reach this fraction of its frame's brightest pixel, so that haze does not pull the centroid."""

MIN_PIXELS = 4
"""Pixels an object must have: fewer are noise. Shape Motion's smallest covers 9 at 32x32."""


class Track(NamedTuple):
  """The object's place in every frame."""

  centroid: jax.Array
  """float32[B, T, 2], (row, column) in pixels, 0 the centre of the first; the frame's middle without an object."""
  presence: jax.Array
  """bool[B, T]."""


class CentroidScore(NamedTuple):
  """How well a predicted track follows the true one; frames whose truth has no object are left out of everything."""

  error: jax.Array
  """float32[B], pixels: mean over the frames where both have an object; NaN without such a frame.

  A prediction without object does not enter here, so this figure means nothing without `presence` beside it."""
  penalised_error: jax.Array
  """float32[B], pixels: as `error`, but a frame without predicted object counts half the frame's diagonal."""
  presence: jax.Array
  """float32[B] in [0, 1]: the fraction of frames with a predicted object; NaN without a true object."""


def object_centroid(
  video: ArrayLike,
  *,
  threshold: float = PRESENCE_THRESHOLD,
  peak_fraction: float = PEAK_FRACTION,
  min_pixels: int = MIN_PIXELS,
) -> Track:
  """Finds the object: the brightness-weighted mean place of the pixels that reach both thresholds.

  Args:
    video: uint8[B, T, H, W, C].
    threshold: brightness in (0, 1] that a pixel must reach.
    peak_fraction: fraction of the frame's largest brightness that a pixel must reach as well, in [0, 1].
    min_pixels: pixels that an object must have.

  Returns:
    A `Track` with centroid float32[B, T, 2] and presence bool[B, T].

  Raises:
    TypeError: if `video` is not uint8.
    ValueError: if `video` is not [B, T, H, W, C] or a threshold is out of range.
  """
  if getattr(video, "dtype", None) != np.uint8:
    raise TypeError(f"object_centroid needs uint8 video, got {getattr(video, 'dtype', type(video))}")
  if video.ndim != 5:
    raise ValueError(f"object_centroid needs [B, T, H, W, C], got shape {video.shape}")
  if not (0.0 < threshold <= 1.0 and 0.0 <= peak_fraction <= 1.0 and min_pixels >= 1):
    raise ValueError(f"object_centroid got {threshold=}, {peak_fraction=}, {min_pixels=}")
  return _track(jnp.asarray(video), threshold, peak_fraction, min_pixels)


def centroid_error(prediction: ArrayLike, truth: ArrayLike) -> CentroidScore:
  """Compares the object's place in two videos, with the default thresholds.

  Args:
    prediction: uint8[B, T, H, W, C].
    truth: uint8[B, T, H, W, C].

  Returns:
    A `CentroidScore`, each field float32[B].

  Raises:
    TypeError, ValueError: see `object_centroid`; ValueError if the shapes differ.
  """
  if np.shape(prediction) != np.shape(truth):
    raise ValueError(f"prediction and truth differ in shape: {np.shape(prediction)} and {np.shape(truth)}")
  return compare_tracks(object_centroid(prediction), object_centroid(truth), frame_size=truth.shape[2:4])


def compare_tracks(predicted: Track, true: Track, *, frame_size: tuple[int, int]) -> CentroidScore:
  """Scores one track against another.

  Args:
    predicted: centroid [B, T, 2] and presence [B, T].
    true: the same shapes.
    frame_size: (H, W) in pixels; half its diagonal is what a missing object costs in `penalised_error`.

  Returns:
    A `CentroidScore`, each field float32[B].
  """
  distance = jnp.linalg.norm(predicted.centroid - true.centroid, axis=-1)
  both = predicted.presence & true.presence
  missing_cost = 0.5 * float(np.hypot(*frame_size))
  return CentroidScore(
    error=_masked_mean(distance, both),
    penalised_error=_masked_mean(jnp.where(predicted.presence, distance, missing_cost), true.presence),
    presence=_masked_mean(predicted.presence.astype(jnp.float32), true.presence),
  )


def object_weight(video: jax.Array) -> jax.Array:
  """How much every pixel belongs to the object, with the default thresholds of `object_centroid`.

  Args:
    video: uint8[B, T, H, W, C].

  Returns:
    float32[B, T, H, W]: the brightness, in (0, 1], of the object's pixels, 0 of all others and in frames without an
    object.
  """
  weight, presence = _weigh(video, PRESENCE_THRESHOLD, PEAK_FRACTION, MIN_PIXELS)
  return jnp.where(presence[..., None, None], weight, 0.0)


@jax.jit
def _track(video: jax.Array, threshold: jax.Array, peak_fraction: jax.Array, min_pixels: jax.Array) -> Track:
  weight, presence = _weigh(video, threshold, peak_fraction, min_pixels)
  height, width = weight.shape[2:]
  rows = (weight.sum(axis=3) * jnp.arange(height, dtype=jnp.float32)[None, None]).sum(axis=2)
  columns = (weight.sum(axis=2) * jnp.arange(width, dtype=jnp.float32)[None, None]).sum(axis=2)
  total = weight.sum(axis=(2, 3))
  place = jnp.stack([rows, columns], axis=-1) / jnp.where(presence, total, 1.0)[..., None]
  middle = jnp.array([(height - 1) / 2, (width - 1) / 2], jnp.float32)
  return Track(jnp.where(presence[..., None], place, middle[None, None]), presence)


def _weigh(
  video: jax.Array, threshold: ArrayLike, peak_fraction: ArrayLike, min_pixels: ArrayLike
) -> tuple[jax.Array, jax.Array]:
  """Brightness [B, T, H, W] of the pixels that reach both thresholds, and whether they are enough, [B, T]."""
  brightness = video.max(axis=-1).astype(jnp.float32) / 255.0
  peak = brightness.max(axis=(2, 3), keepdims=True)
  belongs = brightness >= jnp.maximum(threshold, peak_fraction * peak)
  return jnp.where(belongs, brightness, 0.0), belongs.sum(axis=(2, 3)) >= min_pixels


def _masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean over T where the mask holds: [B, T] -> [B]; NaN where it holds nowhere."""
  count = mask.sum(axis=1)
  return jnp.where(count > 0, jnp.where(mask, values, 0.0).sum(axis=1) / jnp.maximum(count, 1), jnp.nan)
