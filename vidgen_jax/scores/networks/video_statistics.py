"""Statistics of space and time derivatives: features of clips without trained weights."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.scores.networks.layers import ClassifierOutput

_MIN_FRAMES, _MIN_SIDE = 3, 8


class VideoStatistics(nn.Module):
  """Log energies of derivatives at four scales, mean velocity, and layout of luma and chroma.

  Energies are means over the pixels of a frame. Their logarithm is averaged over time, so that a degradation that
  multiplies an energy shifts its feature by the same amount in clips of any contrast. Scales are 1, 1/2, 1/4, 1/8.

  - Each scale, ten: absolute first derivatives of the luma by x and y and its mixed second derivative (blur, noise,
    wrong resolution); mean absolute and root mean square differences of frames 1, 2 and 4 apart (speed, frozen frames);
    the second difference in time (order of the frames).
  - Scale 1/2: absolute derivatives of both chroma channels. Scale 1/4: the velocity that explains the differences of
    frames best, a weighted mean over the frame; means of luma and chroma, and their slopes over x and y.

  The variables are constants of this project, see `vidgen_jax.scores.builtin`.

  Attributes:
    num_scales: number of scales.
    strides: distances of the frames whose difference is taken; in shorter clips the largest possible.
  """

  num_scales: int = 4
  strides: tuple[int, ...] = (1, 2, 4)

  @nn.compact
  def __call__(self, video: jax.Array) -> ClassifierOutput:
    """Computes the features.

    Args:
      video: float32[B, T, H, W, 3], RGB in [-1, 1]; ValueError for fewer than 3 frames, or frames below 8x8.

    Returns:
      As features float32[B, 53] with the default attributes; as logits float32[B, 0].
    """
    if video.ndim != 5 or video.shape[1] < _MIN_FRAMES or min(video.shape[2:4]) < _MIN_SIDE:
      raise ValueError(
        f"needs clips [B, T, H, W, 3] of at least {_MIN_FRAMES} frames of {_MIN_SIDE}x{_MIN_SIDE}, got {video.shape}"
      )
    shapes = {"colour": (3, 3), "floors": (2,), "offset": (), "velocity": (), "chroma": (), "layout": (3, 3)}
    constants = {name: self.param(name, nn.initializers.zeros, shape) for name, shape in shapes.items()}
    planes = jnp.moveaxis(jnp.matmul(video, constants["colour"], precision=lax.Precision.HIGHEST), -1, 0)
    features = []
    for scale in range(self.num_scales):
      if scale:
        planes = _halved(_halved(planes, -1), -2)
      slopes = [_slope(planes[0], axis) for axis in (-1, -2)]
      energies = [*map(_mean_size, (*slopes, _slope(slopes[0], -2))), *self._changes(planes[0])]
      features += [_log_energy(energy, constants) for energy in energies]
      if scale == 1:
        chroma = (_mean_size(_slope(plane, -1)) for plane in planes[1:])
        features += [constants["chroma"] * _log_energy(energy, constants) for energy in chroma]
      if scale == 2:
        features += [constants["velocity"] * _velocity(planes[0], slope, constants) for slope in slopes]
        features += list(_layout(planes, constants["layout"]))
    found = jnp.stack(features, axis=-1)
    return ClassifierOutput(found[:, :0], found)

  def _changes(self, luma: jax.Array) -> list[jax.Array]:
    energies = []
    for stride in self.strides:
      stride = min(stride, luma.shape[1] - 1)
      change = luma[:, stride:] - luma[:, :-stride]
      energies += [_mean_size(change), jnp.sqrt(jnp.square(change).mean((-2, -1)))]
    return [*energies, _mean_size(luma[:, 2:] - 2.0 * luma[:, 1:-1] + luma[:, :-2])]


def _mean_size(x: jax.Array) -> jax.Array:
  return jnp.abs(x).mean((-2, -1))


def _log_energy(energy: jax.Array, constants: dict[str, jax.Array]) -> jax.Array:
  """[B] of energies [B, T], near 0 for common ones; energies far below the floor count as the floor."""
  return jnp.log(energy + constants["floors"][0]).mean(1) + constants["offset"]


def _padded(x: jax.Array, axis: int) -> jax.Array:
  pads = [(0, 0)] * x.ndim
  pads[axis] = (1, 1)
  return jnp.pad(x, pads, mode="edge")


def _part(x: jax.Array, start: int, count: int, axis: int, stride: int = 1) -> jax.Array:
  return lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis % x.ndim)


def _slope(x: jax.Array, axis: int) -> jax.Array:
  """Central difference along one spatial axis, smoothed by (1, 2, 1) / 4 along the other: the Sobel filter."""
  other, padded = (-3 - axis), _padded(x, axis)
  slope = 0.5 * (_part(padded, 2, x.shape[axis], axis) - _part(padded, 0, x.shape[axis], axis))
  padded = _padded(slope, other)
  before, after = (_part(padded, start, x.shape[other], other) for start in (0, 2))
  return 0.25 * (before + 2.0 * slope + after)


def _halved(x: jax.Array, axis: int) -> jax.Array:
  """Every second sample along an axis after the filter (1, 3, 3, 1) / 8."""
  padded, count = _padded(x, axis), x.shape[axis] // 2
  taps = [_part(padded, start, count, axis, 2) for start in range(4)]
  return 0.125 * (taps[0] + 3.0 * (taps[1] + taps[2]) + taps[3])


def _velocity(luma: jax.Array, slope: jax.Array, constants: dict[str, jax.Array]) -> jax.Array:
  """[B]: pixels per frame along the axis of the slope, by least squares over each frame, averaged over time."""
  change, slope = luma[:, 1:] - luma[:, :-1], 0.5 * (slope[:, 1:] + slope[:, :-1])
  product, square = (x.mean((-2, -1)) for x in (-slope * change, slope * slope))
  return (product / (square + constants["floors"][1])).mean(1)


def _layout(planes: jax.Array, weights: jax.Array) -> jax.Array:
  """[9, B]: mean, slope over x and slope over y of each plane, times `weights`."""
  image = planes.mean(2)
  rows, columns = (jnp.linspace(-1.0, 1.0, size) for size in image.shape[-2:])
  moments = [image, image * columns.reshape(1, 1, 1, -1), image * rows.reshape(1, 1, -1, 1)]
  return (jnp.stack([x.mean((-2, -1)) for x in moments], axis=1) * weights[..., None]).reshape(-1, image.shape[1])
