"""The video discriminator, modelled on MoCoGAN's (MVT-GAN, 4.2)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.convolution import convolve
from vidgen_jax.nn.spectral import Dense, Embed, add_bias, kernel_param


class VideoDiscriminator(nn.Module):
  """4x4x4 convolutions with stride 2, leaky ReLUs, and a projection head on the features' sum over time and space.

  Attributes:
    widths: channels of the convolutions; each halves time, height and width.
  """

  widths: tuple[int, ...] = (96, 192, 384, 768)
  num_classes: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, label: jax.Array, *, train: bool) -> jax.Array:
    """Logits float32 [B] of clips [B, T, H, W, C] in [-1, 1] and labels int [B].

    Raises ValueError if time, height or width cannot be halved once per convolution.
    """
    factor = 2 ** len(self.widths)
    if any(side % factor for side in video.shape[1:4]):
      raise ValueError(f"{len(self.widths)} convolutions of stride 2 need multiples of {factor}, got {video.shape}")
    x = video.astype(self.dtype)
    for i, width in enumerate(self.widths):
      shape = (4, 4, 4, x.shape[-1], width)
      kernel = kernel_param(self, f"kernel_{i}", shape, spectral_norm=True, train=train)
      x = convolve(x, kernel, strides=(2, 2, 2), padding=((1, 1),) * 3, precision=None)
      x = add_bias(x, self.param(f"bias_{i}", nn.initializers.zeros, (width,), jnp.float32))
      x = nn.leaky_relu(x, 0.2)
    features = jnp.sum(x.astype(jnp.float32), axis=(1, 2, 3))
    unconditional = Dense(1, name="output")(features, train=train)[:, 0]
    embedded = Embed(self.num_classes, features.shape[-1], name="class_embedding")(label, train=train)
    return unconditional + jnp.sum(features * embedded, axis=-1)
