"""The image encoder E (Inbetweening, 3.1 and appendix A)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.normalised_conv import NormalisedConv


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
