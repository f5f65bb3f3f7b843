"""LPIPS: learned perceptual distance of images (Zhang et al., arXiv:1801.03924, section 3), version 0.1."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax


class _Stage(NamedTuple):
  pool: int  # side of the max pool of stride 2 in front of the stage; 0 for none
  convolutions: tuple[tuple[int, int, int, int], ...]  # number in torchvision, channels, side of the kernel, stride


_VGG = ((0, 64, 2), (5, 128, 2), (10, 256, 3), (17, 512, 3), (24, 512, 3))  # first number, channels, convolutions
# The activations after the last ReLU of each stage are compared.
_TRUNKS = {
  "alexnet": (
    _Stage(0, ((0, 64, 11, 4),)),
    _Stage(3, ((3, 192, 5, 1),)),
    _Stage(3, ((6, 384, 3, 1),)),
    _Stage(0, ((8, 256, 3, 1),)),
    _Stage(0, ((10, 256, 3, 1),)),
  ),
  "vgg16": tuple(
    _Stage(2 if start else 0, tuple((start + 2 * i, channels, 3, 1) for i in range(count)))
    for start, channels, count in _VGG
  ),
}
_MIN_SIDE = {"alexnet": 31, "vgg16": 16}
# Mean and deviation of ImageNet, on [-1, 1].
_SHIFT = np.array([[[[-0.030, -0.088, -0.188]]]], np.float32)
_SCALE = np.array([[[[0.458, 0.448, 0.450]]]], np.float32)
_EPSILON = 1e-10


class LPIPS(nn.Module):
  """Weighted squared difference of unit feature vectors, averaged over space and summed over five layers.

  Attributes:
    trunk: network of the features: 'alexnet', the usual one for evaluation, or 'vgg16'.
  """

  trunk: Literal["alexnet", "vgg16"] = "alexnet"

  @nn.compact
  def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
    """Distance of images float32[N, H, W, 3], RGB in [-1, 1]: float32[N], 0 for equal ones.

    Raises:
      ValueError: the shapes differ, or the images are smaller than 31x31 pixels (AlexNet) or 16x16 (VGG-16).
    """
    side = _MIN_SIDE[self.trunk]
    if first.shape != second.shape or first.ndim != 4 or first.shape[-1] != 3 or min(first.shape[1:3]) < side:
      raise ValueError(
        f"LPIPS with {self.trunk} needs two batches of images [N, H, W, 3] of at least {side}x{side} pixels, got "
        f"{first.shape} and {second.shape}"
      )
    conv = functools.partial(nn.Conv, precision=lax.Precision.HIGHEST)
    x = (jnp.concatenate([first, second]) - _SHIFT) / _SCALE
    distance = jnp.zeros(len(first), jnp.float32)
    for index, stage in enumerate(_TRUNKS[self.trunk]):
      if stage.pool:
        x = nn.max_pool(x, (stage.pool,) * 2, (2, 2))
      for number, channels, size, stride in stage.convolutions:
        pad = (size // 2 if stride == 1 else 2,) * 2  # AlexNet's first convolution pads 2 instead of 5.
        x = nn.relu(conv(channels, (size, size), stride, padding=(pad, pad), name=f"features_{number}")(x))
      unit = x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + _EPSILON)
      difference = jnp.square(unit[: len(first)] - unit[len(first) :])
      head = conv(1, (1, 1), use_bias=False, name=f"lin{index}")
      distance += head(difference).mean(axis=(1, 2, 3))
    return distance
