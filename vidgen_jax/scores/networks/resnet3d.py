"""ResNet-18 with three-dimensional convolutions (Hara et al. 2018; R3D-18 of Tran et al. 2018)."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.scores.networks.layers import ClassifierOutput, Dropout, Stem, max_pool, residual_layers

_BLOCKS = (2, 2, 2, 2)
_BLOCK_KERNELS = ((3, 3, 3), (3, 3, 3))
_STEM_KERNELS = {"torchvision": (3, 7, 7), "hara": (7, 7, 7)}


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
    x = Stem(self.width, _STEM_KERNELS[self.stem], name="stem")(video.astype(self.dtype), train)
    if self.stem == "hara":
      x = max_pool(x, (3, 3, 3), (2, 2, 2), padding=((1, 1),) * 3)
    x = residual_layers(x, _BLOCKS, (self.width,) * 2, _BLOCK_KERNELS, train=train)
    features = x.mean(axis=(1, 2, 3), dtype=jnp.float32)
    x = Dropout(self.dropout)(features, train=train)
    logits = nn.Dense(self.num_classes, dtype=self.dtype, precision=lax.Precision.HIGHEST, name="fc")(x)
    return ClassifierOutput(logits.astype(jnp.float32), features)
