"""The encoder of the conditioning frames."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.blocks import DiscriminatorBlock
from vidgen_jax.nn.spectral import Conv


class Encoder(nn.Module):
  """Initial states for the generator's recurrent units, one per resolution (TrIVD-GAN-FP, appendix A).

  The blocks of the spatial discriminator, down to the generator's lowest resolution, are applied to each conditioning
  frame. At each resolution, time is folded into channels, and a 3x3 convolution with ReLU produces the state.

  Attributes:
    widths: channels of the blocks, each of which halves height and width.
    state_features: channels of the states, coarsest first; one for each block.
  """

  widths: tuple[int, ...]
  state_features: tuple[int, ...]
  spectral_norm: bool = True
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
    """Maps frames [B, Tc, H, W, C] in [-1, 1] to states [B, H / 2^i, W / 2^i, features], coarsest first."""
    block_type = nn.remat(DiscriminatorBlock, static_argnums=(2,)) if self.remat else DiscriminatorBlock
    states = []
    x = frames.astype(self.dtype)
    shared: dict[str, Any] = {"spectral_norm": self.spectral_norm, "dtype": self.dtype}
    for i, (width, features) in enumerate(zip(self.widths, reversed(self.state_features), strict=True)):
      x = block_type(width, preactivation=i > 0, **shared, name=f"block_{i}")(x, train)
      conv = Conv(features, **shared, name=f"state_{i}")
      states.append(nn.relu(conv(fold_time(x), train=train)))
    return tuple(reversed(states))


def fold_time(x: jax.Array) -> jax.Array:
  """Folds time into channels: [B, T, H, W, C] to [B, H, W, T * C], frame t in channels t * C to (t + 1) * C."""
  batch, frames, height, width, channels = x.shape
  return jnp.moveaxis(x, 1, 3).reshape(batch, height, width, frames * channels)
