"""Temporal segment network: a ResNet-50 on a few frames of a clip (Wang et al. 2016; He et al. 2016)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.scores.networks.layers import ClassifierOutput, batch_norm, max_pool

_BLOCKS = (3, 4, 6, 3)
_EXPANSION = 4


def middle_frames(num_frames: int, segments: int) -> jax.Array:
  """Indices of the segments' middle frames: int32[segments], floor((s + 1/2) num_frames / segments)."""
  return (2 * jnp.arange(segments) + 1) * num_frames // (2 * segments)


def random_frames(key: jax.Array, num_frames: int, segments: int, *, batch: int) -> jax.Array:
  """A random frame of each segment: int32[batch, segments]; segment s starts at floor(s num_frames / segments)."""
  bounds = jnp.arange(segments + 1) * num_frames // segments
  return jax.random.randint(key, (batch, segments), bounds[None, :-1], bounds[None, 1:])


class Stem(nn.Module):
  """7x7 convolution of stride 2, batch normalisation, ReLU, 3x3 max pool of stride 2."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, S, H, W, C] to [B, S, H / 4, W / 4, features]."""
    x = Conv3D(self.features, (7, 7), (2, 2), ((3, 3),) * 2, dtype=self.dtype, name="conv")(x)
    x = nn.relu(batch_norm(x, train=train, dtype=self.dtype, name="norm"))
    return max_pool(x, (1, 3, 3), (1, 2, 2), padding=((0, 0), (1, 1), (1, 1)))


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolutions and a shortcut, with the stride on the 3x3 as in torchvision's v1.5."""

  features: int  # of the 3x3 convolution; the output has four times as many
  stride: int = 1  # in height and width
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, S, H, W, C] to [B, S, H / stride, W / stride, 4 * features], rounded up."""
    conv = functools.partial(Conv3D, dtype=self.dtype)
    norm = functools.partial(batch_norm, train=train, dtype=self.dtype)
    outputs, strides = _EXPANSION * self.features, (self.stride,) * 2
    y = nn.relu(norm(conv(self.features, (1, 1), name="conv_0")(x), name="norm_0"))
    y = conv(self.features, (3, 3), strides, ((1, 1),) * 2, name="conv_1")(y)
    y = nn.relu(norm(y, name="norm_1"))
    y = norm(conv(outputs, (1, 1), name="conv_2")(y), name="norm_2")
    if self.stride != 1 or x.shape[-1] != outputs:
      x = norm(conv(outputs, (1, 1), strides, "VALID", name="shortcut_conv")(x), name="shortcut_norm")
    return nn.relu(x + y)


class TSN(nn.Module):
  """ResNet-50 on one frame of each of a clip's equal segments, averaged before the softmax (segmental consensus).

  Height and width are divided by 32: 32x32 is the smallest image whose last layer sees more than padding.

  Attributes:
    num_classes: number of classes.
    segments: number of segments; 3 in the paper.
    width: channels of the stem; 64 as published.
    dropout: probability with which a feature is dropped before the last layer in training; 0.8 for RGB (section 4.1 of
      Wang et al.).
    dtype: dtype of the computation; parameters, statistics and results are float32.
  """

  num_classes: int
  segments: int = 3
  width: int = 64
  dropout: float = 0.8
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    """Classifies clips.

    Args:
      video: float32[B, T, H, W, 3], RGB normalised as the weights require; ValueError if T is below `segments`.
      train: whether to normalise with batch statistics, to update the collection 'batch_stats', to use a random frame
        of each segment (random stream 'frames') instead of the middle one, and to apply dropout (stream 'dropout').

    Returns:
      Logits and features (the 32 * width channels averaged over space, without dropout), averaged over the segments.
    """
    if video.ndim != 5 or video.shape[1] < self.segments:
      raise ValueError(
        f"TSN needs clips [B, T, H, W, 3] of at least {self.segments} frames, got {video.shape}; take longer clips or "
        "fewer segments"
      )
    x = Stem(self.width, self.dtype, name="stem")(self._frames(video, train), train)
    for layer, blocks in enumerate(_BLOCKS, start=1):
      for i in range(blocks):
        stride = 2 if layer > 1 and i == 0 else 1
        x = Bottleneck(self.width * 2 ** (layer - 1), stride, self.dtype, name=f"layer{layer}_{i}")(x, train)
    features = x.mean(axis=(2, 3), dtype=jnp.float32)
    x = nn.Dropout(self.dropout, deterministic=not train)(features)
    logits = nn.Dense(self.num_classes, dtype=self.dtype, precision=lax.Precision.HIGHEST, name="fc")(x)
    return ClassifierOutput(logits.astype(jnp.float32).mean(axis=1), features.mean(axis=1))

  def _frames(self, video: jax.Array, train: bool) -> jax.Array:
    batch, num_frames = video.shape[:2]
    if not train:
      return video[:, middle_frames(num_frames, self.segments)]
    chosen = random_frames(self.make_rng("frames"), num_frames, self.segments, batch=batch)
    return jnp.take_along_axis(video, chosen[:, :, None, None, None], axis=1)
