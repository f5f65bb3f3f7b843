"""The video generator Gv (Inbetweening, 3.3 and appendix A)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.normalised_conv import NormalisedConv
from vidgen_jax.nn.transposed_convolution import ConvTranspose3D


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
