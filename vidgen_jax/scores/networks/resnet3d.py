"""ResNet-18 with three-dimensional convolutions (Hara et al. 2018; R3D-18 of Tran et al. 2018)."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.scores.networks.layers import ClassifierOutput, batch_norm, max_pool

_BLOCKS = (2, 2, 2, 2)
_STEM_KERNELS = {"torchvision": (3, 7, 7), "hara": (7, 7, 7)}


class Stem(nn.Module):
  """Convolution that halves height and width, batch normalisation, ReLU."""

  features: int
  kernel_size: tuple[int, int, int]  # all odd
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T, H / 2, W / 2, features]."""
    pads = tuple((size // 2, size // 2) for size in self.kernel_size)
    x = Conv3D(self.features, self.kernel_size, (1, 2, 2), pads, dtype=self.dtype, name="conv")(x)
    return nn.relu(batch_norm(x, train=train, dtype=self.dtype, name="norm"))


class BasicBlock(nn.Module):
  """Two 3x3x3 convolutions and a shortcut (He et al. 2016, figure 5 left, in three dimensions)."""

  features: int
  stride: int = 1  # in time, height and width, of the first convolution and the shortcut
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T / stride, H / stride, W / stride, features], rounded up."""
    conv = functools.partial(Conv3D, self.features, dtype=self.dtype)
    norm = functools.partial(batch_norm, train=train, dtype=self.dtype)
    strides, pads = (self.stride,) * 3, ((1, 1),) * 3
    y = nn.relu(norm(conv((3, 3, 3), strides, pads, name="conv_0")(x), name="norm_0"))
    y = norm(conv((3, 3, 3), padding=pads, name="conv_1")(y), name="norm_1")
    if self.stride != 1 or x.shape[-1] != self.features:
      x = norm(conv((1, 1, 1), strides, "VALID", name="shortcut_conv")(x), name="shortcut_norm")
    return nn.relu(x + y)


class ResNet3D(nn.Module):
  """3-D ResNet-18 with the stem of torchvision or of Hara et al.

  Stem 'torchvision' (3x7x7, no pool) halves height and width, and layers 2 to 4 halve time, height and width: 8 frames
  of 16x16 are the smallest input whose last layer sees more than padding. Stem 'hara' (7x7x7 and a 3x3x3 max pool of
  stride 2) halves all three once more: 16 frames of 32x32. Smaller inputs also run.

  Attributes:
    num_classes: 400 for Kinetics-400.
    stem: 'torchvision' or 'hara'.
    width: channels of the first layer; 64 as published.
    dropout: probability with which a feature is dropped before the last layer in training.
    dtype: dtype of the computation; parameters, statistics and results are float32.
  """

  num_classes: int
  stem: Literal["torchvision", "hara"] = "torchvision"
  width: int = 64
  dropout: float = 0.6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    """Classifies clips.

    Args:
      video: float32[B, T, H, W, 3], RGB normalised as the weights require.
      train: whether to normalise with batch statistics, to update the collection 'batch_stats', and to apply dropout
        with the random stream 'dropout'.

    Returns:
      The logits, and as features the 8 * width channels averaged over time and space, without dropout.
    """
    if self.stem not in _STEM_KERNELS:
      raise ValueError(f"stem must be one of {tuple(_STEM_KERNELS)}, got {self.stem!r}")
    if video.ndim != 5:
      raise ValueError(f"video must be [B, T, H, W, 3], got {video.shape}")
    x = Stem(self.width, _STEM_KERNELS[self.stem], self.dtype, name="stem")(video, train)
    if self.stem == "hara":
      x = max_pool(x, (3, 3, 3), (2, 2, 2), padding=((1, 1),) * 3)
    for layer, blocks in enumerate(_BLOCKS, start=1):
      for i in range(blocks):
        stride = 2 if layer > 1 and i == 0 else 1
        x = BasicBlock(self.width * 2 ** (layer - 1), stride, self.dtype, name=f"layer{layer}_{i}")(x, train)
    features = x.mean(axis=(1, 2, 3), dtype=jnp.float32)
    x = nn.Dropout(self.dropout, deterministic=not train)(features)
    logits = nn.Dense(self.num_classes, dtype=self.dtype, precision=lax.Precision.HIGHEST, name="fc")(x)
    return ClassifierOutput(logits.astype(jnp.float32), features)
