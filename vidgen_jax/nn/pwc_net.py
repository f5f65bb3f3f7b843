"""PWC-Net: optical flow from a feature pyramid, warping and cost volumes.

D. Sun, X. Yang, M.-Y. Liu, J. Kautz: PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume (CVPR
2018), in the variant with published weights: densely connected decoders and a context network of dilated
convolutions. Layers have the names of the public PyTorch release.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.ops.optical_flow import bilinear_sample, inside_share
from vidgen_jax.ops.resize import resize

PYRAMID = (16, 32, 64, 96, 128, 196)
"""Channels of levels 1 to 6; each level halves the resolution."""

DECODER = (128, 128, 96, 64, 32)
"""Channels of a decoder's convolutions; each reads the inputs and outputs of all previous ones."""

CONTEXT = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))
"""Channels and dilation of the context network's convolutions."""

LAST_LEVEL = 2
"""The flow is estimated at a quarter of the resolution and upsampled."""

FLOW_SCALE = 20.0
"""Motion in pixels of the images for an output of 1."""

MULTIPLE = 2 ** len(PYRAMID)
"""Images are enlarged to multiples of this size."""

_COMMON: dict[str, Any] = {"kernel_init": nn.initializers.he_normal(), "precision": lax.Precision.HIGHEST}


class PWCNet(nn.Module):
  """PWC-Net with densely connected decoders and context network.

  Attributes:
    width: multiplier of all channels except those of flows and cost volumes; 1 for the published weights.
  """

  width: float = 1.0

  @nn.compact
  def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
    """The motion from the first image to the second, both [N, H, W, 3], RGB in [-1, 1].

    Returns:
      float32 [N, H, W, 2]: (dx, dy) in pixels, x to the right and y down, such that second(p + flow(p)) = first(p).

    Raises:
      ValueError: the shapes differ or the images are not RGB.
    """
    if first.shape != second.shape or first.ndim != 4 or first.shape[-1] != 3:
      raise ValueError(f"PWC-Net needs two images [N, H, W, 3] of one shape, got {first.shape} and {second.shape}")
    count, height, width, _ = first.shape
    padded = tuple(-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
    # One pyramid for both images, as one batch; the weights are for BGR in [0, 1].
    images = jnp.concatenate([first, second]).astype(jnp.float32)
    images = resize(0.5 * (images[..., ::-1] + 1.0), *padded, "half_pixel_bilinear")
    flow: Any = None
    features: Any = None
    pyramid = self._pyramid(images)
    for level in range(len(PYRAMID), LAST_LEVEL - 1, -1):
      here, there = pyramid[level - 1][:count], pyramid[level - 1][count:]
      if flow is None:
        features = nn.leaky_relu(cost_volume(here, there), 0.1)
      else:
        flow = _enlarge(flow, 2, name=f"deconv{level + 1}")
        hint = _enlarge(features, 2, name=f"upfeat{level + 1}")
        volume = nn.leaky_relu(cost_volume(here, _warped(there, flow * (FLOW_SCALE / 2**level))), 0.1)
        features = jnp.concatenate([volume, here, flow, hint], axis=-1)
      for i, channels in enumerate(DECODER):
        new = _convolve(features, self._channels(channels), name=f"conv{level}_{i}")
        features = jnp.concatenate([new, features], axis=-1)
      flow = _conv(features, 2, name=f"predict_flow{level}")
    for i, (channels, dilation) in enumerate(CONTEXT, start=1):
      features = _convolve(features, self._channels(channels), dilation=dilation, name=f"dc_conv{i}")
    flow = flow + _conv(features, 2, name=f"dc_conv{len(CONTEXT) + 1}")
    scale = FLOW_SCALE * jnp.array([width / padded[1], height / padded[0]]).reshape(1, 1, 1, 2)
    return resize(flow, height, width, "half_pixel_bilinear") * scale

  def _channels(self, number: int) -> int:
    return max(1, round(self.width * number))

  def _pyramid(self, images: jax.Array) -> list[jax.Array]:
    levels = []
    for level, channels in enumerate(PYRAMID, start=1):
      # The release swaps the names of the first two convolutions of the last level.
      first, middle = ("aa", "a") if level == len(PYRAMID) else ("a", "aa")
      for part, stride in ((first, 2), (middle, 1), ("b", 1)):
        images = _convolve(images, self._channels(channels), stride=stride, name=f"conv{level}{part}")
      levels.append(images)
    return levels


def cost_volume(first: jax.Array, second: jax.Array, *, search_range: int = 4) -> jax.Array:
  """Correlation of each position with the neighbourhood in the second image (section 3, 'cost volume layer').

  Both are features [N, H, W, C], zero outside; `search_range` is the search radius r in pixels.

  Returns:
    [N, H, W, (2r + 1)^2], means over channels of first(p) second(p + d), with d in row-major order.
  """
  r, (height, width) = search_range, first.shape[1:3]
  padded = jnp.pad(second, ((0, 0), (r, r), (r, r), (0, 0)))
  products = [
    jnp.mean(first * padded[:, dy : dy + height, dx : dx + width], axis=-1)
    for dy in range(2 * r + 1)
    for dx in range(2 * r + 1)
  ]
  return jnp.stack(products, axis=-1)


def _warped(features: jax.Array, flow: jax.Array) -> jax.Array:
  """Features at p + flow(p); 0 if more than a thousandth of a sample is outside of the image."""
  share = inside_share(flow)
  return bilinear_sample(features, flow) * jnp.where(share >= 0.999, share, 0.0)


def _convolve(x: jax.Array, channels: int, **options: Any) -> jax.Array:
  return nn.leaky_relu(_conv(x, channels, **options), 0.1)


def _conv(x: jax.Array, channels: int, *, stride: int = 1, dilation: int = 1, name: str) -> jax.Array:
  options: dict[str, Any] = {"strides": stride, "padding": dilation, "kernel_dilation": dilation, **_COMMON}
  return nn.Conv(channels, (3, 3), **options, name=name)(x)


def _enlarge(x: jax.Array, channels: int, *, name: str) -> jax.Array:
  """A 4x4 transposed convolution of stride 2 with a kernel [h, w, out, in]."""
  options: dict[str, Any] = {"strides": (2, 2), "padding": "SAME", "transpose_kernel": True, **_COMMON}
  return nn.ConvTranspose(channels, (4, 4), **options, name=name)(x)
