"""Statistics of space and time derivatives: features of clips without trained weights."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from vidgen_jax.scores.networks.layers import ClassifierOutput

_MIN_FRAMES, _MIN_SIDE = 3, 8
_SCALES, _STRIDES = 4, (1, 2, 4)  # In clips of fewer than 5 frames the largest stride is the largest possible.

_Taps = tuple[float, ...]
_SMOOTH, _SLOPE, _BEND = (0.25, 0.5, 0.25), (-0.5, 0.0, 0.5), (-0.25, 0.5, -0.25)
_HALVE = (0.125, 0.375, 0.375, 0.125)  # at every second sample


class VideoStatistics(nn.Module):
  """Log energies of derivatives at four scales, mean velocity, and layout of luma and chroma.

  Energies are means over the pixels of a frame. Their logarithm is averaged over time, so that a degradation that
  multiplies an energy shifts its feature by the same amount in clips of any contrast. Scales are 1, 1/2, 1/4, 1/8.

  - Each scale, ten: absolute derivatives of the luma, first by x, first by y (Sobel), and second by both (blur, noise,
    wrong resolution); mean absolute and root mean square differences of frames 1, 2 and 4 apart (speed, frozen
    frames); the second difference in time (order of the frames).
  - Scale 1/2: absolute derivatives by x of both chroma channels. Scale 1/4: the velocity that explains the differences
    of frames best, by least squares; means of luma and chroma, and their slopes over x and y.

  The variables are constants of this project, see `vidgen_jax.scores.builtin`.
  """

  @nn.compact
  def __call__(self, video: jax.Array) -> ClassifierOutput:
    """Computes the features.

    Args:
      video: float32[B, T, H, W, 3], RGB in [-1, 1]; ValueError for fewer than 3 frames, or frames below 8x8.

    Returns:
      As features float32[B, 53]; as logits float32[B, 0].
    """
    if video.ndim != 5 or video.shape[1] < _MIN_FRAMES or min(video.shape[2:4]) < _MIN_SIDE:
      raise ValueError(
        f"needs clips [B, T, H, W, 3] of at least {_MIN_FRAMES} frames of {_MIN_SIDE}x{_MIN_SIDE}, got {video.shape}"
      )
    shapes = {"colour": (3, 3), "floors": (2,), "offset": (), "velocity": (), "chroma": (), "layout": (3, 3)}
    constants = {name: self.param(name, nn.initializers.zeros, shape) for name, shape in shapes.items()}
    planes = jnp.moveaxis(jnp.matmul(video, constants["colour"], precision=lax.Precision.HIGHEST), -1, 0)
    energies, others = [], []
    for scale in range(_SCALES):
      if scale:
        planes = _filtered(planes, _HALVE, _HALVE, stride=2)
      slopes = [_filtered(planes[0], _SMOOTH, _SLOPE), _filtered(planes[0], _SLOPE, _SMOOTH)]
      bends = _filtered(planes[0], _BEND, _BEND)
      energies += [*_mean_sizes([*slopes, bends]), *_changes(planes[0])]
      if scale == 1:
        chroma = _mean_sizes(list(_filtered(planes[1:], _SMOOTH, _SLOPE)))
      if scale == 2:
        others = [constants["velocity"] * _velocities(planes[0], slopes, constants["floors"][1])]
        others.append(_layout(planes, constants["layout"]))
    logs = _mean_logs([*energies, *chroma], constants["floors"][0]) + constants["offset"]
    count = len(energies)
    found = jnp.concatenate([logs[:, :count], constants["chroma"] * logs[:, count:], *others], axis=1)
    return ClassifierOutput(found[:, :0], found)


def _changes(luma: jax.Array) -> list[jax.Array]:
  """Energies [B, T'] of differences in time: mean size and root mean square per stride; mean size of the second."""
  frames = luma.shape[1]
  strides = [min(stride, frames - 1) for stride in _STRIDES]
  changes = [luma[:, stride:] - luma[:, :-stride] for stride in strides]
  changes.append(luma[:, 2:] - 2.0 * luma[:, 1:-1] + luma[:, :-2])
  # One reduction of all differences: a reduction for each would take four times as long to compile.
  joined = jnp.concatenate(changes, axis=1)
  ends = np.cumsum([change.shape[1] for change in changes])[:-1]
  sizes = jnp.split(jnp.abs(joined).mean((-2, -1)), ends, axis=1)
  return [*sizes, *jnp.split(jnp.sqrt(jnp.square(joined).mean((-2, -1))), ends, axis=1)[:-1]]


def _mean_sizes(arrays: list[jax.Array]) -> list[jax.Array]:
  return list(jnp.abs(jnp.stack(arrays)).mean((-2, -1)))


def _mean_logs(energies: list[jax.Array], floor: jax.Array) -> jax.Array:
  """Mean over time of log(energy + floor): [B, F] of F energies [B, T'], each with its own T'."""
  lengths = [energy.shape[1] for energy in energies]
  means = np.repeat(np.eye(len(lengths), dtype=np.float32), lengths, axis=0) / np.repeat(lengths, lengths)[:, None]
  logs = jnp.log(jnp.concatenate(energies, axis=1) + floor)
  return jnp.matmul(logs, means.astype(np.float32), precision=lax.Precision.HIGHEST)


def _filtered(x: jax.Array, rows: _Taps, columns: _Taps, *, stride: int = 1) -> jax.Array:
  """Filters [..., H, W] along both axes; the edge is repeated."""
  matrices = (_filter_matrix(size, taps, stride) for size, taps in zip(x.shape[-2:], (rows, columns), strict=True))
  return jnp.einsum("...hw,hi,wj->...ij", x, *matrices, precision=lax.Precision.HIGHEST)


def _filter_matrix(size: int, taps: _Taps, stride: int) -> np.ndarray:
  """[size, size // stride]: a filter along an axis as a matrix product, which compiles faster than shifted slices."""
  matrix = np.zeros((size, size // stride), np.float32)
  for j in range(matrix.shape[1]):
    for k, tap in enumerate(taps):
      matrix[min(max(j * stride + k - 1, 0), size - 1), j] += tap
  return matrix


def _velocities(luma: jax.Array, slopes: list[jax.Array], floor: jax.Array) -> jax.Array:
  """[B, 2]: pixels per frame along x and y, each by least squares over every frame, averaged over time."""
  change, both = luma[:, 1:] - luma[:, :-1], jnp.stack(slopes, axis=1)
  middle = 0.5 * (both[:, :, 1:] + both[:, :, :-1])
  product, square = ((middle * x).mean((-2, -1)) for x in (-change[:, None], middle))
  return (product / (square + floor)).mean(-1)


def _layout(planes: jax.Array, weights: jax.Array) -> jax.Array:
  """[B, 9]: mean, slope over x and slope over y of the three planes, times `weights`."""
  height, width = planes.shape[-2:]
  rows, columns = (np.linspace(-1.0, 1.0, size, dtype=np.float32) for size in (height, width))
  by_row = np.stack([np.ones_like(rows), np.ones_like(rows), rows]) / height
  by_column = np.stack([np.ones_like(columns), columns, np.ones_like(columns)]) / width
  moments = jnp.einsum("pbhw,kh,kw->bkp", planes.mean(2), by_row, by_column, precision=lax.Precision.HIGHEST)
  return (moments * weights[None]).reshape(-1, weights.size)
