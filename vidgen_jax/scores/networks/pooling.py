"""Max pooling of videos, fast on CPU as well."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from vidgen_jax.nn.convolution import Padding


def max_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int], *, padding: Padding = "VALID") -> jax.Array:
  """Maximum over windows; what lies outside of the video never wins.

  A box's maximum is that of its rows' maxima, so one axis is pooled after the other: on CPU that takes a fifth of the
  time of 3x3x3 windows.

  Args:
    x: [B, T, H, W, C] of floats.
    window: (t, h, w).
    strides: (t, h, w).
    padding: 'SAME' and 'VALID' as in TensorFlow, or (before, after) per axis.

  Returns:
    [B, T', H', W', C].
  """
  pads = lax.padtype_to_pads(x.shape[1:4], window, strides, padding) if isinstance(padding, str) else padding
  for axis, (size, stride, pad) in enumerate(zip(window, strides, pads, strict=True), start=1):
    if size > 1 or stride > 1 or any(pad):
      x = _pool_axis(x, axis, size, stride, (int(pad[0]), int(pad[1])))
  return x


def _pool_axis(x: jax.Array, axis: int, size: int, stride: int, pad: tuple[int, int]) -> jax.Array:
  if size > stride:
    window, strides, pads = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
    window[axis], strides[axis], pads[axis] = size, stride, pad
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)
  # Windows that do not overlap: on CPU the gradient of maxima of slices is eight times as fast as reduce_window's.
  padding = [(0, 0)] * x.ndim
  padding[axis] = pad
  padded = jnp.pad(x, padding, constant_values=-jnp.inf) if any(pad) else x
  span = padded.shape[axis] - size + 1
  pooled = lax.slice_in_dim(padded, 0, span, stride, axis=axis)
  for offset in range(1, size):
    pooled = jnp.maximum(pooled, lax.slice_in_dim(padded, offset, offset + span, stride, axis=axis))
  return pooled
