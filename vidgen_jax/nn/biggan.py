"""BigGAN's residual blocks, self-attention and discriminator for video (Brock et al. 2019, appendix B)."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.nn.norm import ConditionalBatchNorm
from vidgen_jax.nn.spectral import Conv, Dense, Embed
from vidgen_jax.ops import resampling
from vidgen_jax.ops.temporal_shift import temporal_shift


class GeneratorBlock(nn.Module):
  """CBN-ReLU-(up)-conv3 -> CBN-ReLU-conv3, with an (up)-conv1x1 shortcut if the shape changes.

  Attributes:
    upsample: whether height and width are doubled, by nearest neighbour.
    shift_divisor: divisor of the temporal shift with which the branch, but not the shortcut, starts (MVT-GAN, figure
      4b); 0 for no shift.
    conditional_bias: `ConditionalBatchNorm.use_bias`.
    bn_per_frame: `BatchNorm.per_frame`.
  """

  features: int
  upsample: bool = False
  shift_divisor: int = 0
  conditional_bias: bool = False
  bn_per_frame: bool = True
  bn_momentum: float = 0.9
  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] and a condition, [B, D] or [B, T, D], to [B, T, H', W', features].

    `train` uses the batch's statistics and advances the power iterations; positional for remat.
    """
    options: dict[str, Any] = {"spectral_norm": self.spectral_norm, "dtype": self.dtype}
    moments = {"per_frame": self.bn_per_frame, "momentum": self.bn_momentum}
    norm = functools.partial(ConditionalBatchNorm, use_bias=self.conditional_bias, **moments, **options)
    conv = functools.partial(Conv, self.features, **options)
    y = temporal_shift(x, self.shift_divisor) if self.shift_divisor else x
    y = nn.relu(norm(name="norm_0")(y, condition, train=train))
    if self.upsample:
      y = resampling.upsample_nearest(y, 2)
    y = conv(name="conv_0")(y, train=train)
    y = nn.relu(norm(name="norm_1")(y, condition, train=train))
    y = conv(name="conv_1")(y, train=train)
    shortcut = x
    if self.upsample or x.shape[-1] != self.features:
      # A 1x1 convolution commutes with nearest-neighbour upsampling; this order costs a quarter of the other.
      shortcut = conv((1, 1), name="conv_shortcut")(shortcut, train=train)
    if self.upsample:
      shortcut = resampling.upsample_nearest(shortcut, 2)
    return y + shortcut


class DiscriminatorBlock(nn.Module):
  """[ReLU]-conv3-ReLU-conv3-(pool), with a (pool)-conv1x1 shortcut if the shape changes.

  Attributes:
    preactivation: whether the branch starts with a ReLU; False for the first block of a network.
    downsample: whether height and width are halved by average pooling.
    temporal_kernel: 1 for 3x3 convolutions of frames, 3 for 3x3x3 convolutions.
    downsample_time: whether time is halved as well.
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
    conv = functools.partial(Conv, self.features, spectral_norm=self.spectral_norm, dtype=self.dtype)
    y = nn.relu(x) if self.preactivation else x
    y = conv(kernel, name="conv_0")(y, train=train)
    y = conv(kernel, name="conv_1")(nn.relu(y), train=train)
    shortcut = self._pool(x)
    if self.downsample or x.shape[-1] != self.features:
      shortcut = conv((1, 1), name="conv_shortcut")(shortcut, train=train)
    return self._pool(y) + shortcut

  def _pool(self, x: jax.Array) -> jax.Array:
    if not self.downsample:
      return x
    x = resampling.average_pool(x, 2)
    return resampling.average_pool_time(x, 2) if self.downsample_time else x


class SelfAttention(nn.Module):
  """y = x + gamma o(softmax(theta(x) phi(x)^T) g(x)), for each frame separately (Zhang et al. 2019).

  theta and phi have an eighth of the channels, g half of them; phi and g are max-pooled by 2. All maps are 1x1
  convolutions without bias. gamma is initialised with 0, which makes the layer the identity. As in BigGAN, the logits
  are not scaled; the softmax is float32.
  """

  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] to the same shape; ValueError for fewer than 8 channels, or an odd height or width."""
    channels = x.shape[-1]
    if channels < 8 or x.shape[2] % 2 or x.shape[3] % 2:
      raise ValueError(f"self-attention needs at least 8 channels and an even height and width, got {x.shape}")

    def project(inputs: jax.Array, features: int, name: str) -> jax.Array:
      conv = Conv(features, (1, 1), use_bias=False, spectral_norm=self.spectral_norm, dtype=self.dtype, name=name)
      return conv(inputs, train=train)

    def positions(maps: jax.Array) -> jax.Array:
      return maps.reshape(*maps.shape[:2], -1, maps.shape[-1])

    theta = positions(project(x, channels // 8, "theta"))
    phi = positions(_max_pool(project(x, channels // 8, "phi")))
    g = positions(_max_pool(project(x, channels // 2, "g")))
    logits = jnp.einsum("btqc,btkc->btqk", theta, phi, preferred_element_type=jnp.float32)
    weights = nn.softmax(logits).astype(self.dtype)
    attended = jnp.einsum("btqk,btkc->btqc", weights, g).reshape(*x.shape[:-1], channels // 2)
    gamma = self.param("gamma", nn.initializers.zeros, (), jnp.float32)
    return x + gamma.astype(self.dtype) * project(attended, channels, "output")


def _max_pool(video: jax.Array) -> jax.Array:
  """Halves height and width of [B, T, H, W, C]."""
  window = (1, 1, 2, 2, 1)
  return lax.reduce_window(video, -jnp.inf, lax.max, window, window, "VALID")


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
