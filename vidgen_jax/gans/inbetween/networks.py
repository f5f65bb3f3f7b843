"""Encoder E, video generator Gv and discriminators of Inbetweening (3.1, 3.3, 3.4 and appendix A).

The discriminators' convolutions have biases although a normalisation follows: layer normalisation divides by the
deviation over the whole example, so without biases a clip and the same clip at half its contrast would get the same
logit.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.nn.norm import LayerNorm
from vidgen_jax.nn.normalised_conv import NormalisedConv, activation
from vidgen_jax.nn.transposed_convolution import ConvTranspose3D
from vidgen_jax.ops import resampling


class Encoder(nn.Module):
  """Maps frames to features with an eighth of their height and width (for three widths).

  Attributes:
    widths: channels of the pairs of layers, 4x4 with stride 2, then 3x3; each pair halves height and width.
    features: C, channels of the result.
  """

  widths: tuple[int, ...] = (64, 128, 256)
  features: int = 64
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array, *, train: bool) -> jax.Array:
    """Maps frames [B, N, H, W, C] in [-1, 1], independently, to [B, N, H / 2^n, W / 2^n, features]."""
    common: dict[str, Any] = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
    x = frames
    for index, width in enumerate(self.widths):
      down: dict[str, Any] = {"strides": (2, 2), "padding": ((1, 1), (1, 1))}
      x = NormalisedConv(width, (4, 4), **down, **common, name=f"down_{index}")(x, train=train)
      x = NormalisedConv(width, (3, 3), **common, name=f"conv_{index}")(x, train=train)
    return NormalisedConv(self.features, (3, 3), **common, name="output")(x, train=train)


class VideoGenerator(nn.Module):
  """Decodes a latent video with transposed 3-D convolutions.

  The last layer is tanh without normalisation: the batch normalisation and leaky ReLU of the paper's table could not
  produce images in [-1, 1].

  Attributes:
    widths: channels before each doubling of height and width.
    time_doublings: number of leading layers that also double time, with 4x4x4 kernels (the naive baseline, 4.2).
  """

  widths: tuple[int, ...] = (256, 128, 64)
  channels: int = 3
  time_doublings: int = 0
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latent: jax.Array, *, train: bool) -> jax.Array:
    """Maps [B, T, h, w, C] to [B, T', h 2^n, w 2^n, channels] in [-1, 1]."""
    common: dict[str, Any] = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
    x = NormalisedConv(self.widths[0], **common, name="input")(latent, train=train)
    for index, width in enumerate(self.widths):
      x = NormalisedConv(width, **common, name=f"conv_{index}")(x, train=train)
      if index + 1 < len(self.widths):
        up = NormalisedConv(
          self.widths[index + 1], **self._doubling(index), transposed=True, **common, name=f"up_{index}"
        )
        x = up(x, train=train)
    last = self._doubling(len(self.widths) - 1)
    x = ConvTranspose3D(self.channels, **last, use_bias=True, dtype=self.dtype, name="output")(x)
    return jnp.tanh(x.astype(jnp.float32))

  def _doubling(self, index: int) -> dict[str, Any]:
    doubles_time = index < self.time_doublings
    return {
      "kernel_size": (4, 4, 4) if doubles_time else (3, 4, 4),
      "strides": (2, 2, 2) if doubles_time else (1, 2, 2),
    }


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
