"""Resizing methods of other frameworks, which published scores depend on.

`jax.image.resize` has neither TensorFlow 1's default nor OpenCV's methods. Each method is a matrix [out, in] for one
axis, computed on the host in float64; resizing is two small matrix products.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Method = Literal["legacy_bilinear", "half_pixel_bilinear", "corner_bilinear", "half_pixel_cubic", "antialias_cubic"]
METHODS: tuple[str, ...] = get_args(Method)

_CUBIC, _KEYS = -0.75, -0.5
"""Parameter a of the cubic kernel in OpenCV and PyTorch, and in Keys' paper and Pillow."""


def resize_matrix(size_in: int, size_out: int, method: str) -> np.ndarray:
  """Weights float32[size_out, size_in] that resize one axis; each row sums to 1.

  Position of output sample i in the input:

  - `legacy_bilinear`: i * in / out. TensorFlow 1's `resize_bilinear(align_corners=False)`, which FVD's reference uses.
  - `half_pixel_bilinear`: (i + 1/2) in / out - 1/2. PyTorch's `align_corners=False`, OpenCV's INTER_LINEAR.
  - `corner_bilinear`: i (in - 1) / (out - 1). PyTorch's `align_corners=True`, Chainer's `resize_images`.
  - `half_pixel_cubic`: the same position, four taps with a = -0.75. OpenCV's INTER_CUBIC.
  - `antialias_cubic`: the same position, a = -0.5; in reduction the kernel is as many times wider. Pillow's BICUBIC.

  Only the last one has anti-aliasing. Samples beyond the border repeat the border, in the last one they are left out.

  Raises ValueError for an unknown method or an empty axis.
  """
  if method not in METHODS:
    raise ValueError(f"{method=} must be one of {', '.join(METHODS)}")
  if size_in < 1 or size_out < 1:
    raise ValueError(f"resizing needs at least one sample on both sides, got {size_in=}, {size_out=}")
  if method == "antialias_cubic":
    return _antialias_cubic(size_in, size_out)
  index = np.arange(size_out, dtype=np.float64)
  if method == "legacy_bilinear":
    # TensorFlow rounds the scale to float32, which can move a position across a sample.
    position = index * np.float64(np.float32(size_in) / np.float32(size_out))
  elif method == "corner_bilinear":
    position = index * ((size_in - 1) / (size_out - 1) if size_out > 1 else 0.0)
  else:
    position = (index + 0.5) * (size_in / size_out) - 0.5
  if method == "half_pixel_bilinear":
    position = np.maximum(position, 0.0)
  lower = np.floor(position)
  fraction = position - lower
  if method == "half_pixel_cubic":
    taps = {offset: _cubic(fraction - offset) for offset in (-1, 0, 1, 2)}
  else:
    taps = {0: 1.0 - fraction, 1: fraction}
  matrix = np.zeros((size_out, size_in))
  for offset, weights in taps.items():
    columns = np.clip(lower + offset, 0, size_in - 1).astype(int)
    np.add.at(matrix, (np.arange(size_out), columns), weights)
  return matrix.astype(np.float32)


def resize(video: jax.Array, height: int, width: int, method: str) -> jax.Array:
  """Resizes float32[..., H, W, C] to [..., height, width, C] by one of `METHODS`, see `resize_matrix`.

  The cubic methods may exceed the range of the input.
  """
  exact = lax.Precision.HIGHEST
  if video.shape[-3] != height:
    rows = jnp.asarray(resize_matrix(video.shape[-3], height, method))
    video = jnp.einsum("yh,...hwc->...ywc", rows, video, precision=exact)
  if video.shape[-2] != width:
    columns = jnp.asarray(resize_matrix(video.shape[-2], width, method))
    video = jnp.einsum("xw,...hwc->...hxc", columns, video, precision=exact)
  return video


def _antialias_cubic(size_in: int, size_out: int) -> np.ndarray:
  """Weights as in `resize_matrix`: the kernel at all samples in its range, normalised."""
  scale = size_in / size_out
  centre, width = (np.arange(size_out) + 0.5) * scale, max(scale, 1.0)
  offset = np.arange(size_in) + 0.5 - centre[:, None]
  weights = _cubic(offset / width, a=_KEYS)
  return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _cubic(distance: np.ndarray, *, a: float = _CUBIC) -> np.ndarray:
  """Keys' cubic convolution kernel (1981, eq. 15 with a instead of -1/2) at a distance in samples."""
  x = np.abs(distance)
  near = (a + 2) * x**3 - (a + 3) * x**2 + 1
  far = a * (x**3 - 5 * x**2 + 8 * x - 4)
  return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
