"""The layers and the output type that the classifiers share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.nn.convolution import Padding


class ClassifierOutput(NamedTuple):
  """Class scores and features of a batch of clips."""

  logits: jax.Array
  """float32[B, num_classes], before the softmax."""
  features: jax.Array
  """float32[B, D], the input of the last layer."""


def batch_norm(x: jax.Array, *, train: bool, name: str, dtype: Any = jnp.float32) -> jax.Array:
  """Normalises [B, T, H, W, C] over batch, time and space; to be called in a compact method.

  With `train`, it uses the batch statistics, over all devices, and updates the running ones in the collection
  'batch_stats'. As in the published ResNets, epsilon is 1e-5 and a step moves them by a tenth.
  """
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name)(x)


def max_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int], *, padding: Padding = "VALID") -> jax.Array:
  """Maximum over windows (t, h, w) of a video [B, T, H, W, C] of floats; padding never wins.

  `padding` is 'SAME' or 'VALID' as in TensorFlow, or (before, after) per axis.
  """
  pads = lax.padtype_to_pads(x.shape[1:4], window, strides, padding) if isinstance(padding, str) else padding
  # The maximum of a box is the maximum of its rows' maxima. On CPU, pooling one axis after the other takes a fifth of
  # the time of 3x3x3 windows.
  for axis, (size, stride, pad) in enumerate(zip(window, strides, pads, strict=True), start=1):
    if size > 1 or stride > 1 or any(pad):
      x = _pool_axis(x, axis, size, stride, (int(pad[0]), int(pad[1])))
  return x


def _pool_axis(x: jax.Array, axis: int, size: int, stride: int, pad: tuple[int, int]) -> jax.Array:
  if size > stride:
    window, strides, pads = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
    window[axis], strides[axis], pads[axis] = size, stride, pad
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)
  # Windows do not overlap: on CPU, the gradient of maxima of slices is eight times as fast as reduce_window's.
  padding = [(0, 0)] * x.ndim
  padding[axis] = pad
  padded = jnp.pad(x, padding, constant_values=-jnp.inf) if any(pad) else x
  span = padded.shape[axis] - size + 1
  pooled = lax.slice_in_dim(padded, 0, span, stride, axis=axis)
  for offset in range(1, size):
    pooled = jnp.maximum(pooled, lax.slice_in_dim(padded, offset, offset + span, stride, axis=axis))
  return pooled
