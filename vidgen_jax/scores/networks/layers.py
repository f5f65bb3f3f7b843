"""The layers and the output type that the classifiers share."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.nn.convolution import Conv3D, Padding
from vidgen_jax.ops.devices import device_axes, draw_per_clip


class ClassifierOutput(NamedTuple):
  """Class scores and features of a batch of clips."""

  logits: jax.Array
  """float32[B, num_classes], before the softmax."""
  features: jax.Array
  """float32[B, D], the input of the last layer."""


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


def conv_norm(
  x: jax.Array, features: int, size: tuple[int, ...], strides: tuple[int, ...], names: tuple[str, str], *, train: bool
) -> jax.Array:
  """Convolution of odd size and batch normalisation of [B, T, H, W, C]; to be called in a compact method.

  With `train`, it uses the batch statistics, over all devices, and updates the running ones in the collection
  'batch_stats'. As in the published ResNets, epsilon is 1e-5 and a step moves them by a tenth.
  """
  conv, norm = names
  x = Conv3D(features, size, strides, tuple((n // 2, n // 2) for n in size), dtype=x.dtype, name=conv)(x)
  options: dict[str, Any] = {"axis_name": device_axes() or None, "momentum": 0.9, "epsilon": 1e-5, "dtype": x.dtype}
  return nn.BatchNorm(use_running_average=not train, **options, name=norm)(x)


class Dropout(nn.Module):
  """`flax.linen.Dropout` with a mask that does not depend on the number of devices."""

  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """With `train`, drops values of [B, ...] with the probability `rate` < 1 and divides the others by 1 - `rate`."""
    if not train or self.rate == 0:
      return x
    keep = 1.0 - self.rate
    mask = draw_per_clip(functools.partial(jax.random.bernoulli, self.make_rng("dropout"), keep), x.shape)
    return lax.select(mask, x / keep, jnp.zeros_like(x))


class Stem(nn.Module):
  """Convolution that halves height and width, batch normalisation, ReLU."""

  features: int
  size: tuple[int, ...]  # of the kernel: (t, h, w), or (h, w) for each frame

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T, H / 2, W / 2, features]."""
    strides = (1, 2, 2)[-len(self.size) :]
    return nn.relu(conv_norm(x, self.features, self.size, strides, ("conv", "norm"), train=train))


class ResidualBlock(nn.Module):
  """Convolutions with ReLUs between them, and a shortcut (He et al. 2016, figure 5)."""

  features: tuple[int, ...]  # of each convolution
  sizes: tuple[tuple[int, ...], ...]  # of the kernels: (t, h, w), or (h, w) for each frame
  stride: int = 1  # of the shortcut and of the first of the largest kernels

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T / stride, H / stride, W / stride, features[-1]], rounded up; T only in 3-D."""
    y, strided, axes = x, self.sizes.index(max(self.sizes)), len(self.sizes[0])
    for i, (features, size) in enumerate(zip(self.features, self.sizes, strict=True)):
      strides = (self.stride if i == strided else 1,) * axes
      y = conv_norm(nn.relu(y) if i else y, features, size, strides, (f"conv_{i}", f"norm_{i}"), train=train)
    if self.stride != 1 or x.shape != y.shape:
      shortcut = ("shortcut_conv", "shortcut_norm")
      x = conv_norm(x, y.shape[-1], (1,) * axes, (self.stride,) * axes, shortcut, train=train)
    return nn.relu(x + y)


def residual_layers(
  x: jax.Array, counts: Sequence[int], features: Sequence[int], sizes: tuple[tuple[int, ...], ...], *, train: bool
) -> jax.Array:
  """Layers of `counts` blocks, 'layer1_0' and so on, to be called in a compact method; all but the first have stride 2.

  `features` are those of the first layer's blocks; each further layer doubles them.
  """
  for layer, count in enumerate(counts):
    for i in range(count):
      stride = 2 if layer and i == 0 else 1
      x = ResidualBlock(tuple(2**layer * n for n in features), sizes, stride, name=f"layer{layer + 1}_{i}")(x, train)
  return x
