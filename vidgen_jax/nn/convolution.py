"""Convolution of videos, in the form that is fast on each platform.

XLA's CPU backend is slow at 3-D convolutions: the same sum as one 2-D convolution over frames, with temporal neighbours
stacked as channels, takes half the time, and with gradients down to a twentieth. For images of few pixels a matrix
product of patches takes a tenth. With cuDNN the stacked form takes 0.29 to 0.81 of the time on an H200, forward and
backward (see docs/results.md). On TPUs the native convolution is used. All forms add the same products and differ by
rounding only.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.ops.convolution2d import convolve_images

Form = Literal["native", "stacked", "matmul"]
Padding = Literal["SAME", "VALID"] | Sequence[tuple[int, int]]


class _Window(NamedTuple):
  strides: tuple[int, ...]
  pads: tuple[tuple[int, int], ...]
  precision: lax.PrecisionLike


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  *,
  strides: Sequence[int] | None = None,
  padding: Padding = "SAME",
  precision: lax.PrecisionLike = lax.Precision.HIGHEST,
  form: Form | None = None,
) -> jax.Array:
  """Convolves videos; a correlation, as usual in this field.

  Args:
    x: [B, T, H, W, C].
    kernel: [kt, kh, kw, in, out], or [kh, kw, in, out] for each frame separately.
    strides: one per axis of the kernel's window; None for 1.
    padding: 'SAME' or 'VALID' as in TensorFlow ('SAME' pads an odd pixel at the end), or (before, after) per axis.
    precision: precision of the products; below HIGHEST the result depends on the platform.
    form: form of the computation; None selects it by the platform for which the program is compiled.

  Returns:
    [B, T', H', W', out] with x's dtype.

  Raises:
    ValueError: ranks or channels do not match, or the kernel is larger than the padded video.
  """
  size = kernel.shape[:-2]
  strides = tuple(strides or (1,) * len(size))
  if x.ndim != 5 or len(size) not in (2, 3) or len(strides) != len(size) or x.shape[-1] != kernel.shape[-2]:
    raise ValueError(
      f"cannot convolve {x.shape} with a kernel {kernel.shape} and {strides=}; use [B, T, H, W, C] and "
      "[kt, kh, kw, C, out] or [kh, kw, C, out]"
    )
  if isinstance(padding, str):
    pads = tuple(lax.padtype_to_pads(x.shape[4 - len(size) : 4], size, strides, padding))
  else:
    pads = tuple((int(before), int(after)) for before, after in padding)
  if len(size) == 2:
    kernel, strides, pads = kernel[None], (1, *strides), ((0, 0), *pads)
  window, kernel = _Window(strides, pads, precision), kernel.astype(x.dtype)
  sizes = zip(x.shape[1:4], kernel.shape[:3], strides, pads, strict=True)
  frames, height, width = ((length + sum(pad) - taps) // stride + 1 for length, taps, stride, pad in sizes)
  if min(frames, height, width) < 1:
    raise ValueError(f"a kernel {kernel.shape} does not fit into {x.shape} with the padding {pads}; use a larger video")
  compute = {name: functools.partial(function, window=window) for name, function in _FORMS.items()}
  if form is not None:
    return compute[form](x, kernel)
  # Only the platform's branch is compiled, so the program contains no conditional.
  # On CPU matrix products are faster for at most 4x4 output pixels per frame, and equal at 7x7.
  cpu = compute["matmul" if kernel.shape[:3] == (1, 1, 1) or height * width <= 16 else "stacked"]
  default = compute["native"]
  # The backward pass recomputes the stacked frames: stored, they would take the memory of a clip for every tap.
  cuda = default if kernel.shape[0] == 1 else jax.checkpoint(compute["stacked"])
  return lax.platform_dependent(x, kernel, cpu=cpu, cuda=cuda, default=default)


def _native(x: jax.Array, kernel: jax.Array, *, window: _Window) -> jax.Array:
  strides, pads, precision = window
  if kernel.shape[0] == strides[0] == 1 and pads[0] == (0, 0):
    return _frames_convolution(x, kernel[0], window)
  numbers = ("NTHWC", "THWIO", "NTHWC")
  return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=numbers, precision=precision)


def _stacked(x: jax.Array, kernel: jax.Array, *, window: _Window) -> jax.Array:
  """One 2-D convolution of frames with their temporal neighbours as additional channels."""
  shifted, kernel = _temporal_taps(x, kernel, window.strides[0], window.pads[0])
  # [kt, kh, kw, in, out] -> [kh, kw, kt * in, out], in the order of the stacked neighbours.
  flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
  return _frames_convolution(jnp.concatenate(shifted, axis=-1), flat, window)


def _matmul(x: jax.Array, kernel: jax.Array, *, window: _Window) -> jax.Array:
  """One matrix product of patches with the flattened kernel."""
  strides, pads, precision = window
  patches, kernel = _temporal_taps(x, kernel, strides[0], pads[0])
  for axis in (2, 3):
    taps, stride, pad = kernel.shape[axis - 1], strides[axis - 1], pads[axis - 1]
    patches = [shifted for patch in patches for shifted in _shifts(patch, axis, range(taps), taps, stride, pad)]
  patch = jnp.concatenate(patches, axis=-1)
  product = jnp.matmul(patch.reshape(-1, patch.shape[-1]), kernel.reshape(-1, kernel.shape[-1]), precision=precision)
  return product.reshape(*patch.shape[:-1], -1)


_FORMS: dict[str, Callable[..., jax.Array]] = {"native": _native, "stacked": _stacked, "matmul": _matmul}


def _temporal_taps(
  x: jax.Array, kernel: jax.Array, stride: int, pad: tuple[int, int]
) -> tuple[list[jax.Array], jax.Array]:
  """The frames under each temporal tap of the kernel, and the kernel without taps that only cover padding."""
  length, taps = x.shape[1], kernel.shape[0]
  starts = range(0, length + sum(pad) - taps + 1, stride)
  seen = [tap for tap in range(taps) if any(0 <= start + tap - pad[0] < length for start in starts)]
  # For a clip of one frame and three taps, two thirds of the products would be zeros.
  first, last = (seen[0], seen[-1]) if seen else (0, taps - 1)
  return _shifts(x, 1, range(first, last + 1), taps, stride, pad), kernel[first : last + 1]


def _shifts(x: jax.Array, axis: int, taps: range, num_taps: int, stride: int, pad: tuple[int, int]) -> list[jax.Array]:
  """The inputs of each tap along one axis, as arrays of the output's length."""
  padding = [(0, 0)] * x.ndim
  padding[axis] = pad
  padded = jnp.pad(x, padding) if any(pad) else x
  span = padded.shape[axis] - num_taps + 1
  return [lax.slice_in_dim(padded, tap, tap + span, stride, axis=axis) for tap in taps]


def _frames_convolution(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
  """Applies a 2-D kernel with the spatial part of a window to each frame."""
  (_, *strides), (_, *pads), precision = window
  y = convolve_images(x.reshape(-1, *x.shape[2:]), kernel, strides=strides, pads=tuple(pads), precision=precision)
  return y.reshape(*x.shape[:2], *y.shape[1:])


class Conv3D(nn.Module):
  """Convolution of videos with the parameters `kernel` and, optionally, `bias`; see `convolve` for the attributes.

  A kernel of size (kh, kw) is applied to each frame.
  """

  features: int
  kernel_size: tuple[int, ...] = (3, 3, 3)
  strides: tuple[int, ...] | None = None
  padding: Padding = "SAME"
  use_bias: bool = False
  dtype: Any = jnp.float32
  precision: lax.PrecisionLike = lax.Precision.HIGHEST

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T', H', W', features]."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
    y = self._convolve(x.astype(self.dtype), kernel)
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
      y = y + bias.astype(y.dtype).reshape(1, 1, 1, 1, -1)
    return y

  def _convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve(x, kernel, strides=self.strides, padding=self.padding, precision=self.precision)
