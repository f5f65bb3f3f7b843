"""Position of the one bright object of a clip (Shape Motion), and how far a predicted position is from the true one.

The brightness of a pixel is its largest channel, so that a pure blue object counts as much as a white one.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need

# A pixel of an object must reach this brightness in [0, 1], and this fraction of the frame's brightest pixel, so that
# haze does not move the centroid.
_MIN_BRIGHTNESS = 0.1
_PEAK_FRACTION = 0.25

_MIN_PIXELS = 4  # of an object; fewer are noise. The smallest object of Shape Motion covers 9 pixels at 32x32.


class Track(NamedTuple):
  """Position of the object in each frame."""

  centroid: jax.Array
  """float32[B, T, 2], (row, column) in pixels, 0 is the centre of the first pixel; without an object, the centre of the
  frame."""
  presence: jax.Array
  """bool[B, T]."""

  def take(self, frames: np.ndarray) -> "Track":
    """The track in some frames, by their indices."""
    return Track(self.centroid[:, frames], self.presence[:, frames])


@jax.jit
def object_centroid(video: np.ndarray | jax.Array) -> Track:
  """Mean position, weighted by brightness, of the object's pixels in uint8[B, T, H, W, C]."""
  weight, found = _weigh(jnp.asarray(video))
  height, width = weight.shape[2:]
  rows = (weight.sum(axis=3) * jnp.arange(height, dtype=jnp.float32)[None, None]).sum(axis=2)
  columns = (weight.sum(axis=2) * jnp.arange(width, dtype=jnp.float32)[None, None]).sum(axis=2)
  total = weight.sum(axis=(2, 3))
  position = jnp.stack([rows, columns], axis=-1) / jnp.where(found, total, 1.0)[..., None]
  centre = jnp.array([(height - 1) / 2, (width - 1) / 2], jnp.float32)
  return Track(jnp.where(found[..., None], position, centre[None, None]), found)


def object_weight(video: jax.Array | np.ndarray) -> jax.Array:
  """Brightness of the object's pixels in uint8[B, T, H, W, C]: float32[B, T, H, W] in [0, 1], 0 outside the object."""
  weight, found = _weigh(jnp.asarray(video))
  return jnp.where(found[..., None, None], weight, 0.0)


def _weigh(video: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Brightness [B, T, H, W] of the pixels that reach both thresholds, and whether they are enough: [B, T]."""
  brightness = video.max(axis=-1).astype(jnp.float32) / 255.0
  peak = brightness.max(axis=(2, 3), keepdims=True)
  belongs = brightness >= jnp.maximum(_MIN_BRIGHTNESS, _PEAK_FRACTION * peak)
  return jnp.where(belongs, brightness, 0.0), belongs.sum(axis=(2, 3)) >= _MIN_PIXELS


def centroid_error(predicted: Track, true: Track, _: tuple[int, int]) -> jax.Array:
  """Mean distance in pixels over the frames in which both tracks have an object: float32[B], NaN without such a frame.

  A prediction that loses the object is not penalised, so read it together with `presence`.
  """
  return _masked_mean(_distance(predicted, true), predicted.presence & true.presence)


def penalised_centroid_error(predicted: Track, true: Track, frame_size: tuple[int, int]) -> jax.Array:
  """Mean distance in pixels over the frames with a true object: float32[B], NaN without such a frame.

  A missing prediction costs half the diagonal of `frame_size` (H, W).
  """
  missing_cost = 0.5 * float(np.hypot(*frame_size))
  return _masked_mean(jnp.where(predicted.presence, _distance(predicted, true), missing_cost), true.presence)


def presence(predicted: Track, true: Track, _: tuple[int, int]) -> jax.Array:
  """Fraction of the frames with a true object in which the prediction has one: float32[B], NaN without such a frame."""
  return _masked_mean(predicted.presence.astype(jnp.float32), true.presence)


def _distance(predicted: Track, true: Track) -> jax.Array:
  return jnp.linalg.norm(predicted.centroid - true.centroid, axis=-1)


def _masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean over T where the mask is true: [B, T] -> [B]; NaN where it is true nowhere."""
  count = mask.sum(axis=1)
  return jnp.where(count > 0, jnp.where(mask, values, 0.0).sum(axis=1) / jnp.maximum(count, 1), jnp.nan)


_metric = functools.partial(
  Metric, source="this project, for Shape Motion", kind=Kind.CLIP, needs=(Need.TRUTH, Need.OBJECT)
)

METRICS = (
  _metric(
    name="centroid_error",
    description="distance in pixels between the predicted and the true object, mean over the generated frames in which "
    "both are found; read it together with presence",
    protocol="frames with both objects",
    function=centroid_error,
    higher_is_better=False,
    unit="px",
  ),
  _metric(
    name="penalised_centroid_error",
    reported_as="centroid_error",
    description="the same distance over all generated frames with a true object; a frame without a predicted object "
    "counts half the frame's diagonal",
    protocol="no object costs half the diagonal",
    function=penalised_centroid_error,
    higher_is_better=False,
    unit="px",
  ),
  _metric(
    name="presence",
    description="fraction of the generated frames with a true object in which an object is found; without conditioning "
    "frames, of all frames",
    protocol="share of frames with an object",
    function=presence,
    higher_is_better=True,
    selectable=False,  # The sample that shows an object most often is no better prediction.
  ),
)
