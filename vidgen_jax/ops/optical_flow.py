"""Differentiable optical flow without weights: pyramidal Lucas-Kanade.

B. D. Lucas, T. Kanade: An iterative image registration technique (1981), coarse to fine with warping as in J.-Y.
Bouguet: Pyramidal implementation of the Lucas Kanade feature tracker (2001). Unlike there, the flow is dense, windows
have binomial weights, sums run over all colour channels, and windows without texture are damped.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vidgen_jax.ops.resampling import upsample_nearest

MIN_SIDE = 8
"""Minimum side of an image in the pyramid, in pixels."""

FlowEstimator = Callable[[jax.Array, jax.Array], jax.Array]
"""Function of two images [N, H, W, C] in [-1, 1] that returns the motion from the first to the second, float32
[N, H, W, 2]: (dx, dy) in pixels, x to the right and y down."""


def flow_of_clips(estimate: FlowEstimator, video: jax.Array) -> jax.Array:
  """Motion from each frame of clips [B, T, H, W, C] in [-1, 1] to the next: float32 [B, T - 1, H, W, 2] in pixels."""
  batch, frames, *image = video.shape
  first, second = (part.reshape(-1, *image) for part in (video[:, :-1], video[:, 1:]))
  return estimate(first, second).reshape(batch, frames - 1, *image[:2], 2)


@dataclass(frozen=True, kw_only=True)
class LucasKanade:
  """A `FlowEstimator` without weights.

  Attributes:
    levels: maximum number of pyramid levels; each halves the images.
    iterations: number of least-squares steps per level; each warps the second image again.
    smoothing: number of (1, 2, 1) / 4 filter passes over the structure tensor; the window has 2 smoothing + 1 pixels.
    damping: term added to the diagonal of the structure tensor, in squared brightness per pixel (images in [-1, 1]);
      windows with much less texture keep the motion of the coarser level.
    longest_step: maximum step in pixels of a level; longer steps are shortened smoothly.
  """

  levels: int = 3
  iterations: int = 4
  smoothing: int = 8
  damping: float = 1e-4
  longest_step: float = 1.0

  def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
    """Motion between images, as in `FlowEstimator`, such that second(p + flow(p)) = first(p).

    Raises:
      ValueError: if shapes differ.
    """
    if first.shape != second.shape or first.ndim != 4:
      raise ValueError(f"optical flow needs two images [N, H, W, C] of one shape, got {first.shape}, {second.shape}")
    pyramid = [(first.astype(jnp.float32), second.astype(jnp.float32))]
    while len(pyramid) < self.levels and all(
      side % 2 == 0 and side // 2 >= MIN_SIDE for side in pyramid[-1][0].shape[1:3]
    ):
      pyramid.append(tuple(_halved(image) for image in pyramid[-1]))
    flow = jnp.zeros((*pyramid[-1][0].shape[:3], 2), jnp.float32)
    for level, (a, b) in enumerate(reversed(pyramid)):
      if level:
        flow = 2.0 * _blurred(upsample_nearest(flow[:, None], 2)[:, 0], 1)
      for _ in range(self.iterations):
        flow = flow + self._step(a, bilinear_sample(b, flow), _inside(flow))
        # Smoothing keeps single windows from diverging.
        flow = _blurred(flow, 1)
    return flow

  def _step(self, first: jax.Array, warped: jax.Array, inside: jax.Array) -> jax.Array:
    """Least-squares residual motion [N, H, W, 2] between two images, over the pixels with `inside` = 1."""
    dx, dy = _slopes(0.5 * (first + warped))
    dt = warped - first
    products = jnp.stack([dx * dx, dx * dy, dy * dy, dx * dt, dy * dt], axis=-1).sum(axis=-2)
    products = products * inside
    xx, xy, yy, xt, yt = jnp.moveaxis(_blurred(products, self.smoothing), -1, 0)
    xx, yy = xx + self.damping, yy + self.damping
    determinant = xx * yy - xy * xy
    step = -jnp.stack([yy * xt - xy * yt, xx * yt - xy * xt], axis=-1) / determinant[..., None]
    length = jnp.sqrt(jnp.sum(jnp.square(step), axis=-1, keepdims=True) + 1e-12)
    return step * (self.longest_step / length) * jnp.tanh(length / self.longest_step)


def bilinear_sample(images: jax.Array, flow: jax.Array) -> jax.Array:
  """Samples images [N, H, W, C] at p + flow(p), clamped to the image; differentiable in both arguments.

  `flow` is (dx, dy) [N, H, W, 2] in pixels.
  """
  count, height, width, channels = images.shape
  columns, rows = _targets(flow)
  columns, rows = jnp.clip(columns, 0, width - 1), jnp.clip(rows, 0, height - 1)
  left = jnp.minimum(jnp.floor(columns), width - 2)
  top = jnp.minimum(jnp.floor(rows), height - 2)
  right_share, low_share = (columns - left)[..., None], (rows - top)[..., None]
  start = (top * width + left).astype(jnp.int32).reshape(count, -1, 1)
  flat = images.reshape(count, -1, channels)

  def corner(offset: int) -> jax.Array:
    return jnp.take_along_axis(flat, start + offset, axis=1).reshape(images.shape)

  above = (1 - right_share) * corner(0) + right_share * corner(1)
  below = (1 - right_share) * corner(width) + right_share * corner(width + 1)
  return (1 - low_share) * above + low_share * below


def inside_share(flow: jax.Array) -> jax.Array:
  """Fraction [N, H, W, 1] of each sample of `bilinear_sample` that is inside the image; 0 from a pixel outside on."""
  height, width = flow.shape[1:3]
  shares = [
    jnp.clip(1.0 - jnp.maximum(-position, position - (size - 1)), 0.0, 1.0)
    for position, size in zip(_targets(flow), (width, height), strict=True)
  ]
  return (shares[0] * shares[1])[..., None]


def _inside(flow: jax.Array) -> jax.Array:
  """1 where p + flow(p) is inside the image, else 0: [N, H, W, 1]."""
  height, width = flow.shape[1:3]
  columns, rows = _targets(flow)
  inside = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)
  return inside[..., None].astype(flow.dtype)


def _targets(flow: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The columns and rows of p + flow(p), both [N, H, W]."""
  height, width = flow.shape[1:3]
  columns = jnp.arange(width, dtype=flow.dtype)[None, None, :] + flow[..., 0]
  return columns, jnp.arange(height, dtype=flow.dtype)[None, :, None] + flow[..., 1]


def _blurred(images: jax.Array, passes: int) -> jax.Array:
  """Filters both axes of [N, H, W, C] with (1, 2, 1) / 4, `passes` times; borders repeat."""
  # One matrix product per axis takes a hundredth of the time of repeated passes on CPU.
  rows, columns = (jnp.asarray(_blur_matrix(side, passes)) for side in images.shape[1:3])
  images = jnp.einsum("yh,nhwc->nywc", rows, images, precision=lax.Precision.HIGHEST)
  return jnp.einsum("xw,nhwc->nhxc", columns, images, precision=lax.Precision.HIGHEST)


def _blur_matrix(size: int, passes: int) -> np.ndarray:
  once = np.zeros((size, size))
  for offset, weight in ((-1, 0.25), (0, 0.5), (1, 0.25)):
    once += weight * np.eye(size)[np.clip(np.arange(size) + offset, 0, size - 1)]
  return np.linalg.matrix_power(once, passes).astype(np.float32)


def _halved(images: jax.Array) -> jax.Array:
  """Halves [N, H, W, C] after a blur; pixel i is centred between 2i and 2i + 1."""
  parts = [_blurred(images, 1)[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
  return 0.25 * sum(parts[1:], parts[0])


def _slopes(images: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Central differences per pixel along x and y; borders repeat."""
  # Under vmap: without it, mode="edge" reads the edges of the sharded axis N too, which moves data between devices.
  padded = jax.vmap(lambda image: jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge"))(images)
  return 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]), 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
