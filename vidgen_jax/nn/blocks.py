"""The residual blocks of BigGAN (Brock et al. 2019, appendix B) for video."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.norm import ConditionalBatchNorm
from vidgen_jax.nn.spectral import Conv
from vidgen_jax.ops import resampling
from vidgen_jax.ops.temporal_shift import temporal_shift


class GeneratorBlock(nn.Module):
  """CBN-ReLU-(up)-conv3 -> CBN-ReLU-conv3, with an (up)-conv1x1 shortcut if the shape changes.

  Attributes:
    upsample: whether height and width are doubled, by nearest neighbour.
    shift: whether the branch, but not the shortcut, starts with a temporal shift (MVT-GAN, figure 4b).
    bn_per_frame: `BatchNorm.per_frame`.
  """

  features: int
  upsample: bool = False
  shift: bool = False
  bn_per_frame: bool = True
  bn_momentum: float = 0.9
  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] and a condition, [B, D] or [B, T, D], to [B, T, H', W', features].

    `train` uses the batch's statistics and advances the power iterations; positional for remat.
    """
    options: dict[str, Any] = {"spectral_norm": self.spectral_norm, "dtype": self.dtype}
    norm = functools.partial(ConditionalBatchNorm, per_frame=self.bn_per_frame, momentum=self.bn_momentum, **options)
    conv = functools.partial(Conv, self.features, **options)
    y = temporal_shift(x) if self.shift else x
    y = nn.relu(norm(name="norm_0")(y, condition, train=train))
    if self.upsample:
      y = resampling.upsample_nearest(y, 2)
    y = conv(name="conv_0")(y, train=train)
    y = nn.relu(norm(name="norm_1")(y, condition, train=train))
    y = conv(name="conv_1")(y, train=train)
    shortcut = x
    if self.upsample or x.shape[-1] != self.features:
      # A 1x1 convolution commutes with nearest-neighbour upsampling; this order costs a quarter of the other.
      shortcut = conv((1, 1), name="conv_shortcut")(shortcut, train=train)
    if self.upsample:
      shortcut = resampling.upsample_nearest(shortcut, 2)
    return y + shortcut


class DiscriminatorBlock(nn.Module):
  """[ReLU]-conv3-ReLU-conv3-(pool), with a (pool)-conv1x1 shortcut if the shape changes.

  Attributes:
    preactivation: whether the branch starts with a ReLU; False for the first block of a network.
    downsample: whether height and width are halved by average pooling.
    temporal_kernel: 1 for 3x3 convolutions of frames, 3 for 3x3x3 convolutions.
    downsample_time: whether time is halved as well.
  """

  features: int
  preactivation: bool = True
  downsample: bool = True
  temporal_kernel: int = 1
  downsample_time: bool = False
  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T', H', W', features]; `train` is positional for remat."""
    kernel = (3, 3) if self.temporal_kernel == 1 else (self.temporal_kernel, 3, 3)
    conv = functools.partial(Conv, self.features, spectral_norm=self.spectral_norm, dtype=self.dtype)
    y = nn.relu(x) if self.preactivation else x
    y = conv(kernel, name="conv_0")(y, train=train)
    y = conv(kernel, name="conv_1")(nn.relu(y), train=train)
    shortcut = self._pool(x)
    if self.downsample or x.shape[-1] != self.features:
      shortcut = conv((1, 1), name="conv_shortcut")(shortcut, train=train)
    return self._pool(y) + shortcut

  def _pool(self, x: jax.Array) -> jax.Array:
    if not self.downsample:
      return x
    x = resampling.average_pool(x, 2)
    return resampling.average_pool_time(x, 2) if self.downsample_time else x
