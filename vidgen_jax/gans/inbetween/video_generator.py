"""The image encoder E and the video generator Gv (Inbetweening, 3.1, 3.3 and appendix A)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.normalised_conv import NormalisedConv
from vidgen_jax.nn.transposed_convolution import ConvTranspose3D


class Encoder(nn.Module):
  """Maps frames to features with an eighth of their height and width (for three widths).

  Attributes:
    widths: channels of the pairs of layers, 4x4 with stride 2, then 3x3; each pair halves height and width.
    features: C, channels of the result.
  """

  widths: tuple[int, ...] = (64, 128, 256)
  features: int = 64
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array, *, train: bool) -> jax.Array:
    """Maps frames [B, N, H, W, C] in [-1, 1], independently, to [B, N, H / 2^n, W / 2^n, features]."""
    common: dict[str, Any] = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
    x = frames
    for index, width in enumerate(self.widths):
      down: dict[str, Any] = {"strides": (2, 2), "padding": ((1, 1), (1, 1))}
      x = NormalisedConv(width, (4, 4), **down, **common, name=f"down_{index}")(x, train=train)
      x = NormalisedConv(width, (3, 3), **common, name=f"conv_{index}")(x, train=train)
    return NormalisedConv(self.features, (3, 3), **common, name="output")(x, train=train)


class VideoGenerator(nn.Module):
  """Decodes a latent video with transposed 3-D convolutions.

  The last layer is tanh without normalisation: the batch normalisation and leaky ReLU of the paper's table could not
  produce images in [-1, 1].

  Attributes:
    widths: channels before each doubling of height and width.
    time_doublings: number of leading layers that also double time, with 4x4x4 kernels (the naive baseline, 4.2).
  """

  widths: tuple[int, ...] = (256, 128, 64)
  channels: int = 3
  time_doublings: int = 0
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latent: jax.Array, *, train: bool) -> jax.Array:
    """Maps [B, T, h, w, C] to [B, T', h 2^n, w 2^n, channels] in [-1, 1]."""
    common: dict[str, Any] = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
    x = NormalisedConv(self.widths[0], **common, name="input")(latent, train=train)
    for index, width in enumerate(self.widths):
      x = NormalisedConv(width, **common, name=f"conv_{index}")(x, train=train)
      if index + 1 < len(self.widths):
        up = NormalisedConv(
          self.widths[index + 1], **self._doubling(index), transposed=True, **common, name=f"up_{index}"
        )
        x = up(x, train=train)
    last = self._doubling(len(self.widths) - 1)
    x = ConvTranspose3D(self.channels, **last, use_bias=True, dtype=self.dtype, name="output")(x)
    return jnp.tanh(x.astype(jnp.float32))

  def _doubling(self, index: int) -> dict[str, Any]:
    doubles_time = index < self.time_doublings
    return {
      "kernel_size": (4, 4, 4) if doubles_time else (3, 4, 4),
      "strides": (2, 2, 2) if doubles_time else (1, 2, 2),
    }
