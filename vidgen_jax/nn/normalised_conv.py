"""Convolution, batch normalisation and leaky ReLU: the layer of the Inbetweening and SR-cGAN generators."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.convolution import Conv3D, Padding
from vidgen_jax.nn.norm import BatchNorm
from vidgen_jax.nn.transposed_convolution import ConvTranspose3D


def activation(x: jax.Array) -> jax.Array:
  """The leaky ReLU with slope 0.2 (Inbetweening, 3.2; SR-cGAN)."""
  return nn.leaky_relu(x, 0.2)


class NormalisedConv(nn.Module):
  """Convolution - batch normalisation - leaky ReLU (Inbetweening, appendix A).

  The convolution has no bias, since the normalisation has an offset. Statistics are over batch, time and space.

  Attributes:
    kernel_size: (kt, kh, kw), or (kh, kw) for each frame separately.
    strides: one per axis of the kernel.
    padding: see `convolve`; unused by transposed convolutions, whose padding follows from kernel and strides.
    transposed: whether the size is multiplied by the strides instead of divided.
  """

  features: int
  kernel_size: tuple[int, ...] = (3, 3, 3)
  strides: tuple[int, ...] | None = None
  padding: Padding = "SAME"
  transposed: bool = False
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T', H', W', features]."""
    if self.transposed:
      conv = ConvTranspose3D(self.features, self.kernel_size, self.strides, dtype=self.dtype, name="conv")
    else:
      options: dict[str, Any] = {"precision": None, "dtype": self.dtype, "name": "conv"}
      conv = Conv3D(self.features, self.kernel_size, self.strides, self.padding, **options)
    norm = BatchNorm(per_frame=False, momentum=self.bn_momentum, dtype=self.dtype, name="norm")
    return activation(norm(conv(x), train=train))
