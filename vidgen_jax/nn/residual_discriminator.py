"""BigGAN's discriminator for frames and clips (Brock et al. 2019), as in MVT-GAN and TrIVD-GAN-FP."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.attention import SelfAttention
from vidgen_jax.nn.blocks import DiscriminatorBlock
from vidgen_jax.nn.spectral import Dense, Embed


@chex.dataclass(frozen=True)
class ProjectionScores:
  """The two terms of a projection head's score (TrIVD-GAN-FP, E.1)."""

  unconditional: jax.Array
  """r_x: float32 [B, T]."""
  conditional: jax.Array
  """r_xy: float32 [B, T], the product with the class embedding."""


class ResidualDiscriminator(nn.Module):
  """BigGAN's discriminator for frames or, with 3-D convolutions in its first blocks, clips (TrIVD-GAN-FP, A).

  Attributes:
    widths: channels of the residual blocks; all except the last halve height and width.
    num_temporal_blocks: number of leading blocks with 3x3x3 convolutions: 0 for frames, 2 for clips.
    downsample_time: whether these blocks halve time as well.
    attention_after: index of the block before self-attention, counted from 0; None for no attention.
    num_classes: number of classes; 1 for an unconditional model.
    remat: whether the backward pass recomputes the activations of each block.
  """

  widths: tuple[int, ...]
  num_temporal_blocks: int = 0
  downsample_time: bool = False
  attention_after: int | None = None
  num_classes: int = 1
  spectral_norm: bool = True
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, label: jax.Array, *, train: bool) -> ProjectionScores:
    """Scores clips [B, T, H, W, C] in [-1, 1], or sets of frames along the time axis, with labels int [B].

    `train` advances the power iterations; the head is float32.
    """
    block_type = nn.remat(DiscriminatorBlock, static_argnums=(2,)) if self.remat else DiscriminatorBlock
    x = video.astype(self.dtype)
    for i, width in enumerate(self.widths):
      temporal = i < self.num_temporal_blocks
      x = block_type(
        width,
        preactivation=i > 0,
        downsample=i < len(self.widths) - 1,
        temporal_kernel=3 if temporal else 1,
        downsample_time=temporal and self.downsample_time,
        spectral_norm=self.spectral_norm,
        dtype=self.dtype,
        name=f"block_{i}",
      )(x, train)
      if i == self.attention_after:
        attention = SelfAttention(spectral_norm=self.spectral_norm, dtype=self.dtype, name="attention")
        x = attention(x, train=train)
    features = jnp.sum(nn.relu(x).astype(jnp.float32), axis=(2, 3))
    unconditional = Dense(1, spectral_norm=self.spectral_norm, name="output")(features, train=train)[..., 0]
    embed = Embed(self.num_classes, features.shape[-1], spectral_norm=self.spectral_norm, name="class_embedding")
    conditional = jnp.einsum("btc,bc->bt", features, embed(label, train=train))
    return ProjectionScores(unconditional=unconditional, conditional=conditional)
