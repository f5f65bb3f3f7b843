"""The frame generator: BigGAN's generator, applied to every frame (MVT-GAN, 4.1, figure 4, appendix A)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.attention import SelfAttention
from vidgen_jax.nn.blocks import GeneratorBlock
from vidgen_jax.nn.norm import MOMENTS, BatchNorm
from vidgen_jax.nn.spectral import Conv, Dense


class FrameGenerator(nn.Module):
  """Generates a frame from each Z_F[t], which also conditions every batch normalisation of that frame.

  Batch statistics span all frames of all clips. In the temporal self-attention variant (MVT-TSA) the first blocks begin
  with a temporal shift, the only layer that mixes frames.

  Attributes:
    widths: channels after the first linear map and after each block; each block doubles height and width.
    first_size: (height, width) after the linear map: 4x4 for frames of 128x128, 3x3 for 96x96.
    attention_after: 0-based index of the block that is followed by self-attention within each frame; None for none.
    shifted_blocks: number of leading blocks that begin with a temporal shift: 0, or 2 in MVT-TSA.
  """

  widths: tuple[int, ...]
  first_size: tuple[int, int] = (4, 4)
  channels: int = 3
  attention_after: int | None = None
  shifted_blocks: int = 0
  bn_momentum: float = 0.9
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, condition: jax.Array, *, train: bool) -> jax.Array:
    """Maps Z_F [B, T, D] to frames, float32 [B, T, H, W, channels] in [-1, 1]."""
    height, width = self.first_size
    x = Dense(height * width * self.widths[0], dtype=self.dtype, name="input")(condition, train=train)
    x = x.reshape(*condition.shape[:2], height, width, self.widths[0])
    keep = jax.checkpoint_policies.save_only_these_names(MOMENTS)
    block_type = nn.remat(GeneratorBlock, static_argnums=(3,), policy=keep) if self.remat else GeneratorBlock
    for i, features in enumerate(self.widths[1:]):
      x = block_type(
        features,
        upsample=True,
        shift=i < self.shifted_blocks,
        bn_per_frame=False,
        bn_momentum=self.bn_momentum,
        dtype=self.dtype,
        name=f"block_{i}",
      )(x, condition, train)
      if i == self.attention_after:
        x = SelfAttention(dtype=self.dtype, name="attention")(x, train=train)
    norm = BatchNorm(per_frame=False, momentum=self.bn_momentum, dtype=self.dtype, name="output_norm")
    x = Conv(self.channels, dtype=self.dtype, name="output")(nn.relu(norm(x, train=train)), train=train)
    return jnp.tanh(x.astype(jnp.float32))
