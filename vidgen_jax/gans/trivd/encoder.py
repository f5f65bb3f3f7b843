"""The encoder of the conditioning frames."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.blocks import DiscriminatorBlock
from vidgen_jax.nn.spectral import Conv


class Encoder(nn.Module):
  """Initial states for the generator's recurrent units, one per resolution (TrIVD-GAN-FP, appendix A).

  The trunk of the spatial discriminator, up to the lowest resolution that is needed, is applied to each conditioning
  frame. At each resolution, time is folded into channels and one 3x3 convolution + ReLU makes the state.

  Attributes:
    widths: channels of the trunk's blocks; block i halves the resolution for the i-th time.
    state_features: channels of the states, coarsest first; as many as widths.
    spectral_norm: on all kernels.
    remat: recomputes each block's activations in the backward pass.
    dtype: of the computation.
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
    for i, width in enumerate(self.widths):
      x = block_type(width, preactivation=i > 0, spectral_norm=self.spectral_norm, dtype=self.dtype, name=f"block_{i}")(
        x, train
      )
      folded = fold_time(x)
      features = self.state_features[len(self.widths) - 1 - i]
      conv = Conv(features, spectral_norm=self.spectral_norm, dtype=self.dtype, name=f"state_{i}")
      states.append(nn.relu(conv(folded, train=train)))
    return tuple(reversed(states))


def fold_time(x: jax.Array) -> jax.Array:
  """[B, T, H, W, C] to [B, H, W, T * C]; the channels of frame t stand at t * C to (t + 1) * C."""
  batch, frames, height, width, channels = x.shape
  return jnp.moveaxis(x, 1, 3).reshape(batch, height, width, frames * channels)
