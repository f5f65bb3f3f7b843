"""Temporal segment network: a ResNet-50 on a few frames of a clip (Wang et al. 2016; He et al. 2016)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.ops.devices import draw_per_clip
from vidgen_jax.scores.networks.layers import ClassifierOutput, Dropout, Stem, max_pool, residual_layers

_BLOCKS = (3, 4, 6, 3)
_BLOCK_KERNELS = ((1, 1), (3, 3), (1, 1))  # with the stride on the 3x3 as in torchvision's v1.5


def middle_frames(num_frames: int, segments: int) -> jax.Array:
  """Indices of the segments' middle frames: int32[segments], floor((s + 1/2) num_frames / segments)."""
  return (2 * jnp.arange(segments) + 1) * num_frames // (2 * segments)


def random_frames(key: jax.Array, num_frames: int, segments: int, *, batch: int) -> jax.Array:
  """A random frame of each segment: int32[batch, segments]; segment s starts at floor(s num_frames / segments)."""
  starts = jnp.arange(segments + 1) * num_frames // segments
  bounds = {"minval": starts[None, :-1], "maxval": starts[None, 1:]}
  return draw_per_clip(functools.partial(jax.random.randint, key, **bounds), (batch, segments))


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
    x = Stem(self.width, (7, 7), name="stem")(self._frames(video, train).astype(self.dtype), train)
    x = max_pool(x, (1, 3, 3), (1, 2, 2), padding=((0, 0), (1, 1), (1, 1)))
    channels = (self.width, self.width, 4 * self.width)
    x = residual_layers(x, _BLOCKS, channels, _BLOCK_KERNELS, train=train)
    features = x.mean(axis=(2, 3), dtype=jnp.float32)
    x = Dropout(self.dropout)(features, train=train)
    logits = nn.Dense(self.num_classes, dtype=self.dtype, precision=lax.Precision.HIGHEST, name="fc")(x)
    return ClassifierOutput(logits.astype(jnp.float32).mean(axis=1), features.mean(axis=1))

  def _frames(self, video: jax.Array, train: bool) -> jax.Array:
    batch, num_frames = video.shape[:2]
    if not train:
      return video[:, middle_frames(num_frames, self.segments)]
    chosen = random_frames(self.make_rng("frames"), num_frames, self.segments, batch=batch)
    return jnp.take_along_axis(video, chosen[:, :, None, None, None], axis=1)
