"""The residual blocks of BigGAN (Brock et al. 2019, appendix B) on video."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.norm import ConditionalBatchNorm
from vidgen_jax.nn.spectral import Conv
from vidgen_jax.ops import resampling
from vidgen_jax.ops.temporal_shift import temporal_shift


class GeneratorBlock(nn.Module):
  """CBN-ReLU-(up)-conv3 -> CBN-ReLU-conv3, with a (up)-conv1x1 shortcut where the shape changes.

  Attributes:
    features: output channels.
    upsample: doubles height and width by nearest neighbour.
    shift: lets the branch, not the shortcut, begin with a temporal shift (MVT-GAN, figure 4b).
    bn_per_frame: see `BatchNorm`.
    bn_momentum: see `BatchNorm`.
    spectral_norm: on all kernels.
    dtype: of the computation.
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
    """Maps [B, T, H, W, C] and a condition to [B, T, H', W', features].

    Args:
      x: the features.
      condition: [B, D], or [B, T, D] for one per frame.
      train: normalises by the batch's own statistics and advances the power iterations; positional for remat.
    """
    norm = {
      "per_frame": self.bn_per_frame,
      "momentum": self.bn_momentum,
      "spectral_norm": self.spectral_norm,
      "dtype": self.dtype,
    }
    conv = {"spectral_norm": self.spectral_norm, "dtype": self.dtype}
    y = temporal_shift(x) if self.shift else x
    y = nn.relu(ConditionalBatchNorm(**norm, name="norm_0")(y, condition, train=train))
    if self.upsample:
      y = resampling.upsample_nearest(y, 2)
    y = Conv(self.features, **conv, name="conv_0")(y, train=train)
    y = nn.relu(ConditionalBatchNorm(**norm, name="norm_1")(y, condition, train=train))
    y = Conv(self.features, **conv, name="conv_1")(y, train=train)
    shortcut = x
    if self.upsample or x.shape[-1] != self.features:
      # A 1x1 convolution and a nearest-neighbour upsampling commute; this order costs a quarter.
      shortcut = Conv(self.features, (1, 1), **conv, name="conv_shortcut")(shortcut, train=train)
    if self.upsample:
      shortcut = resampling.upsample_nearest(shortcut, 2)
    return y + shortcut


class DiscriminatorBlock(nn.Module):
  """[ReLU]-conv3-ReLU-conv3-(pool), with a (pool)-conv1x1 shortcut where the shape changes.

  Attributes:
    features: output channels.
    preactivation: whether the branch starts with a ReLU; the first block of a network has none.
    downsample: halves height and width by average pooling.
    temporal_kernel: 1 for framewise convolutions, 3 for 3x3x3 ones.
    downsample_time: halves time as well.
    spectral_norm: on all kernels.
    dtype: of the computation.
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
    conv = {"spectral_norm": self.spectral_norm, "dtype": self.dtype}
    y = nn.relu(x) if self.preactivation else x
    y = Conv(self.features, kernel, **conv, name="conv_0")(y, train=train)
    y = Conv(self.features, kernel, **conv, name="conv_1")(nn.relu(y), train=train)
    shortcut = self._pool(x)
    if self.downsample or x.shape[-1] != self.features:
      shortcut = Conv(self.features, (1, 1), **conv, name="conv_shortcut")(shortcut, train=train)
    return self._pool(y) + shortcut

  def _pool(self, x: jax.Array) -> jax.Array:
    if not self.downsample:
      return x
    x = resampling.average_pool(x, 2)
    return resampling.average_pool_time(x, 2) if self.downsample_time else x
