"""I3D: Inception-v1 inflated to three dimensions (Carreira and Zisserman 2017, figure 3)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.scores.networks.layers import ClassifierOutput, max_pool

MIXED_CHANNELS = {
  "Mixed_3b": (64, 96, 128, 16, 32, 32),
  "Mixed_3c": (128, 128, 192, 32, 96, 64),
  "Mixed_4b": (192, 96, 208, 16, 48, 64),
  "Mixed_4c": (160, 112, 224, 24, 64, 64),
  "Mixed_4d": (128, 128, 256, 24, 64, 64),
  "Mixed_4e": (112, 144, 288, 32, 64, 64),
  "Mixed_4f": (256, 160, 320, 32, 128, 128),
  "Mixed_5b": (256, 160, 320, 32, 128, 128),
  "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of the units b0, b1a, b1b, b2a, b2b, b3b of each inception module."""

# (window, strides) of the max pool before a module.
_POOLS = {"Mixed_3b": ((1, 3, 3), (1, 2, 2)), "Mixed_4b": ((3, 3, 3), (2, 2, 2)), "Mixed_5b": ((2, 2, 2), (2, 2, 2))}


class Unit(nn.Module):
  """Convolution without bias, batch normalisation with stored statistics and without gain, ReLU.

  The head, which returns the class scores, is a convolution with bias only.
  """

  features: int
  size: int = 1  # of the cubic kernel
  stride: int = 1  # in time, height and width
  is_head: bool = False
  epsilon: float = 1e-3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T', H', W', features]."""
    size, stride = (self.size,) * 3, (self.stride,) * 3
    x = Conv3D(self.features, size, stride, "SAME", use_bias=self.is_head, dtype=self.dtype, name="conv")(x)
    if self.is_head:
      return x
    norm = nn.BatchNorm(use_running_average=True, use_scale=False, epsilon=self.epsilon, dtype=self.dtype, name="norm")
    return nn.relu(norm(x))


class Mixed(nn.Module):
  """Inception module: four branches, concatenated in the order b0, b1, b2, b3."""

  channels: tuple[int, ...]  # of the units b0, b1a, b1b, b2a, b2b, b3b
  unit: Callable[..., nn.Module] = Unit

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T, H, W, b0 + b1b + b2b + b3b]."""
    b0, b1a, b1b, b2a, b2b, b3b = self.channels
    branches = [
      self.unit(b0, name="b0")(x),
      self.unit(b1b, 3, name="b1b")(self.unit(b1a, name="b1a")(x)),
      self.unit(b2b, 3, name="b2b")(self.unit(b2a, name="b2a")(x)),
      self.unit(b3b, name="b3b")(max_pool(x, (3, 3, 3), (1, 1, 1), padding="SAME")),
    ]
    return jnp.concatenate(branches, axis=-1)


class I3D(nn.Module):
  """I3D on RGB, with TensorFlow's SAME padding, as in the reference implementation of FVD.

  The network is not trainable: batch normalisation always uses the stored statistics, and there is no dropout.

  Attributes:
    num_classes: 400 for Kinetics-400.
    epsilon: epsilon of batch normalisation; 1e-3 in the reference, 1e-5 in one public port.
    width: factor of all numbers of channels; 1 is the published network.
    pool_window: (t, h, w) of the last average pool, which must cover the whole image: 7x7 at 224x224. Smaller windows
      are for smaller images, whose scores differ from the published network's.
    dtype: dtype of the computation; parameters and results are float32.
  """

  num_classes: int = 400
  epsilon: float = 1e-3
  width: float = 1.0
  pool_window: tuple[int, int, int] = (2, 7, 7)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    """Classifies clips.

    Args:
      video: float32[B, T, H, W, 3], RGB in [-1, 1]; at least 9 frames of 193 to 224 pixels a side (224 as published),
        ValueError for others.
      train: without effect; all classifiers have this argument.

    Returns:
      The logits averaged over time, on which FVD is defined, and as features the 1024 averages before the last
      convolution.
    """
    del train
    self._check(video.shape)
    unit = functools.partial(Unit, epsilon=self.epsilon, dtype=self.dtype)
    x = unit(self._channels(64), 7, 2, name="Conv3d_1a_7x7")(video)
    x = max_pool(x, (1, 3, 3), (1, 2, 2), padding="SAME")
    x = unit(self._channels(64), name="Conv3d_2b_1x1")(x)
    x = unit(self._channels(192), 3, name="Conv3d_2c_3x3")(x)
    for name, channels in MIXED_CHANNELS.items():
      if name in _POOLS:
        x = max_pool(x, *_POOLS[name], padding="SAME")
      x = Mixed(tuple(map(self._channels, channels)), unit, name=name)(x)
    x = nn.avg_pool(x, self.pool_window, (1, 1, 1), "VALID")
    logits = unit(self.num_classes, is_head=True, name="logits")(x)
    mean = functools.partial(jnp.mean, axis=(1, 2, 3), dtype=jnp.float32)
    return ClassifierOutput(mean(logits), mean(x))

  def _channels(self, published: int) -> int:
    return max(1, round(self.width * published))

  def _check(self, shape: tuple[int, ...]) -> None:
    frames, height, width = self.pool_window
    fits = len(shape) == 5 and shape[-1] == 3 and -(-shape[1] // 8) >= frames
    if not fits or (-(-shape[2] // 32), -(-shape[3] // 32)) != (height, width):
      raise ValueError(
        f"I3D needs clips [B, T, H, W, 3] of at least {8 * frames - 7} frames, {32 * height - 31} to {32 * height} "
        f"pixels high and {32 * width - 31} to {32 * width} wide, got {shape}; sample longer clips, resize to "
        f"{32 * height}x{32 * width}"
      )
