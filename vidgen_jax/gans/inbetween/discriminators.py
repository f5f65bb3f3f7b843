"""The two discriminators (Inbetweening, 3.4 and appendix A).

Their convolutions have biases although a normalisation follows: layer normalisation divides by the deviation over the
whole example, so without biases a clip and the same clip at half its contrast would get the same logit.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.nn.norm import LayerNorm
from vidgen_jax.nn.normalised_conv import activation
from vidgen_jax.ops import resampling


class VideoDiscriminator(nn.Module):
  """Four 4x4x4 convolutions with stride (1, 2, 2), unpadded in time, and one logit for the whole clip.

  Every convolution is followed by layer normalisation and a leaky ReLU.

  Attributes:
    widths: channels of the convolutions; each removes three frames and halves height and width.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array) -> jax.Array:
    """Logits float32 [B] of clips [B, T, H, W, C] in [-1, 1]; T must exceed three times the number of convolutions."""
    x = video
    for index, width in enumerate(self.widths):
      options: dict[str, Any] = {"use_bias": True, "precision": None, "dtype": self.dtype, "name": f"conv_{index}"}
      x = Conv3D(width, (4, 4, 4), (1, 2, 2), ((0, 0), (1, 1), (1, 1)), **options)(x)
      x = activation(LayerNorm(dtype=self.dtype, name=f"norm_{index}")(x))
    return _logit(x)


class ImageDiscriminator(nn.Module):
  """A residual network on single frames.

  Each residual block consists of a 3x3 convolution and a 4x4 convolution with stride 2; its shortcut is a 1x1
  convolution of 2x2 averages. The paper's table lists the image as input of every shortcut, but only the block's own
  input has a matching shape. The sum is normalised, not the shortcut alone.

  Attributes:
    widths: channels of the residual blocks, each of which halves height and width.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frame: jax.Array) -> jax.Array:
    """Logits float32 [B] of frames [B, H, W, C] in [-1, 1]."""
    x = frame[:, None]
    for index, width in enumerate(self.widths):
      common: dict[str, Any] = {"use_bias": True, "precision": None, "dtype": self.dtype}
      y = Conv3D(x.shape[-1], (3, 3), **common, name=f"conv_{index}")(x)
      y = activation(LayerNorm(dtype=self.dtype, name=f"norm_{index}")(y))
      down: dict[str, Any] = {"strides": (2, 2), "padding": ((1, 1), (1, 1))}
      y = Conv3D(width, (4, 4), **down, **common, name=f"down_{index}")(y)
      shortcut = Conv3D(width, (1, 1), **common, name=f"shortcut_{index}")(resampling.average_pool(x, 2))
      x = activation(LayerNorm(dtype=self.dtype, name=f"down_norm_{index}")(y + shortcut))
    return _logit(x)


def _logit(x: jax.Array) -> jax.Array:
  flat = x.reshape(x.shape[0], -1).astype(jnp.float32)
  return nn.Dense(1, name="output")(flat)[:, 0]
