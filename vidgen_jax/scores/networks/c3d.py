"""C3D (Tran et al. 2015, figure 3)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.scores.networks.layers import ClassifierOutput, Dropout, max_pool

# Convolutions in front of each pool: (name, channels).
_STAGES = (
  (("conv1a", 64),),
  (("conv2a", 128),),
  (("conv3a", 256), ("conv3b", 256)),
  (("conv4a", 512), ("conv4b", 512)),
  (("conv5a", 512), ("conv5b", 512)),
)
_MIN_FRAMES, _MIN_SIZE = 8, 16


class C3D(nn.Module):
  """Eight 3x3x3 convolutions, five max pools, three fully connected layers.

  The published input is 16 frames of 112x112. The last pool rounds up as in Caffe (7 -> 4 pixels), with padding at the
  end only. The weights of `fc6` fit one input size only: [T * H * W * C, 4096], with 8192 inputs in that order.

  Attributes:
    num_classes: 101 for UCF-101.
    dropout: probability with which a value of fc6 and fc7 is dropped in training.
    width: factor of all numbers of channels, including fc6 and fc7; 1 is the published network.
    dtype: dtype of the computation; parameters and results are float32.
  """

  num_classes: int = 101
  dropout: float = 0.5
  width: float = 1.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    """Classifies clips.

    Args:
      video: float32[B, T, H, W, 3]; for published weights BGR in 0..255 minus the mean clip. ValueError for fewer than
        8 frames, or frames below 16x16.
      train: whether to apply dropout, with the random stream 'dropout'.

    Returns:
      The logits, and as features fc7 after its ReLU (4096 values), without dropout.
    """
    if video.ndim != 5 or video.shape[1] < _MIN_FRAMES or min(video.shape[2:4]) < _MIN_SIZE:
      raise ValueError(
        f"C3D needs clips [B, T, H, W, 3] of at least {_MIN_FRAMES} frames of {_MIN_SIZE}x{_MIN_SIZE}, "
        f"got {video.shape}; take longer clips or a higher resolution"
      )
    conv = functools.partial(Conv3D, padding=((1, 1),) * 3, use_bias=True, dtype=self.dtype)
    dense = functools.partial(nn.Dense, dtype=self.dtype, precision=lax.Precision.HIGHEST)
    x = video.astype(self.dtype)
    for stage, convolutions in enumerate(_STAGES):
      for name, channels in convolutions:
        x = nn.relu(conv(self._channels(channels), name=name)(x))
      window = (1, 2, 2) if stage == 0 else (2, 2, 2)
      # Rounding up means padding at the end of odd sizes; the other pools drop the odd pixel.
      is_last = stage == len(_STAGES) - 1
      pads = tuple((0, size % 2 if is_last else 0) for size in x.shape[1:4])
      x = max_pool(x, window, window, padding=pads)
    x = x.reshape(x.shape[0], -1)
    for name in ("fc6", "fc7"):
      x = nn.relu(dense(self._channels(4096), name=name)(x))
      features = x
      x = Dropout(self.dropout)(x, train=train)
    logits = dense(self.num_classes, name="fc8")(x)
    return ClassifierOutput(logits.astype(jnp.float32), features.astype(jnp.float32))

  def _channels(self, published: int) -> int:
    return max(1, round(self.width * published))
