"""E_I, G_I and D_I of SR-cGAN (III.B.1): a VAE-GAN of single frames.

The paper's layer tables are not published; the layers follow the same group's other networks of this size.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.gans.sr_cgan.losses import Gaussian
from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.nn.normalised_conv import NormalisedConv, activation
from vidgen_jax.nn.transposed_convolution import ConvTranspose3D

HALVING: dict[str, Any] = {"kernel_size": (4, 4), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
"""Options of a convolution that halves height and width."""


class ImageEncoder(nn.Module):
  """E_I: 4x4 convolutions with stride 2, then linear maps to mean and log-variance.

  Attributes:
    widths: channels of the convolutions.
    latent_features: D, length of z_I.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
  latent_features: int = 128
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array, *, train: bool) -> Gaussian:
    """Maps frames [B, N, H, W, C] in [-1, 1], independently, to q(z_I | x), [B, N, D]."""
    x = frames.astype(self.dtype)
    for i, width in enumerate(self.widths):
      layer = NormalisedConv(width, **HALVING, bn_momentum=self.bn_momentum, dtype=self.dtype, name=f"down_{i}")
      x = layer(x, train=train)
    x = x.reshape(*x.shape[:2], -1)
    mean, log_variance = (
      nn.Dense(self.latent_features, dtype=self.dtype, name=name)(x).astype(jnp.float32)
      for name in ("mean", "log_variance")
    )
    return Gaussian(mean=mean, log_variance=log_variance)


class ImageGenerator(nn.Module):
  """G_I: the encoder's layers in reverse order, with tanh at the end.

  Attributes:
    size: (height, width) of the frames.
    widths: widths of the encoder, used in reverse order.
  """

  size: tuple[int, int]
  widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
  channels: int = 3
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latent: jax.Array, *, train: bool) -> jax.Array:
    """Maps latents [B, N, D], independently, to frames [B, N, H, W, channels] in [-1, 1]."""
    common: dict[str, Any] = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
    height, width = (side // 2 ** len(self.widths) for side in self.size)
    x = nn.Dense(height * width * self.widths[-1], dtype=self.dtype, name="input")(latent.astype(self.dtype))
    x = x.reshape(*latent.shape[:2], height, width, self.widths[-1])
    x = NormalisedConv(self.widths[-1], (1, 1), **common, name="first")(x, train=train)
    doubling: dict[str, Any] = {"kernel_size": (1, 4, 4), "strides": (1, 2, 2)}
    for i, features in enumerate(reversed(self.widths[:-1])):
      x = NormalisedConv(features, **doubling, transposed=True, **common, name=f"up_{i}")(x, train=train)
    x = ConvTranspose3D(self.channels, **doubling, use_bias=True, dtype=self.dtype, name="output")(x)
    return jnp.tanh(x.astype(jnp.float32))


class ImageDiscriminator(nn.Module):
  """D_I: 4x4 convolutions with stride 2 and two linear maps, without normalisation.

  Attributes:
    widths: channels of the convolutions.
    hidden_features: units of the first linear map.
  """

  widths: tuple[int, ...] = (16, 32, 64, 128, 256)
  hidden_features: int = 512
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps frames [B, N, H, W, C] in [-1, 1], independently, to logits float32 [B, N]."""
    x = frames.astype(self.dtype)
    for i, width in enumerate(self.widths):
      x = activation(Conv3D(width, **HALVING, use_bias=True, dtype=self.dtype, precision=None, name=f"down_{i}")(x))
    x = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    x = activation(nn.Dense(self.hidden_features, dtype=self.dtype, name="hidden")(x))
    return nn.Dense(1, name="output")(x.astype(jnp.float32))[..., 0]
