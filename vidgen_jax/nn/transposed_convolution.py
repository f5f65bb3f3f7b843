"""Transposed convolution of videos, in the form that is fast on each platform.

XLA's CPU backend has no fast kernel for dilated inputs. There the layer is one ordinary convolution for each phase of
the output (such as every second row), and the results are interleaved: the same products, but none with inserted zeros.
Accelerators have kernels for dilated convolutions.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from vidgen_jax.nn.convolution import Conv3D, convolve

Form = Literal["dilated", "phases"]


def convolve_transposed(
  x: jax.Array,
  kernel: jax.Array,
  *,
  strides: Sequence[int],
  precision: lax.PrecisionLike = None,
  form: Form | None = None,
) -> jax.Array:
  """The transpose of a convolution with zero padding (K - S) / 2: input i adds x[i] kernel[k] to output S i - P + k.

  Args:
    x: [B, T, H, W, C].
    kernel: [kt, kh, kw, in, out]; each K - S is even and not negative.
    strides: S per axis; the output is S times as large.
    precision: precision of the products.
    form: form of the computation; None selects it by the platform for which the program is compiled.

  Returns:
    [B, S T, S H, S W, out] with x's dtype.

  Raises:
    ValueError: ranks, channels, or kernel and strides do not match.
  """
  window = kernel.shape[:-2]
  fits = all(taps >= stride and (taps - stride) % 2 == 0 for taps, stride in zip(window, strides, strict=False))
  if x.ndim != 5 or len(window) != 3 or len(strides) != 3 or x.shape[-1] != kernel.shape[-2] or not fits:
    raise ValueError(
      f"no transposed convolution of {x.shape} with a kernel {kernel.shape} and {strides=}; use [B, T, H, W, C] and "
      "[kt, kh, kw, C, out], where each size exceeds its stride by an even number"
    )
  compute = {name: functools.partial(f, strides=strides, precision=precision) for name, f in _FORMS.items()}
  kernel = kernel.astype(x.dtype)
  if form is not None:
    return compute[form](x, kernel)
  return lax.platform_dependent(x, kernel, cpu=compute["phases"], default=compute["dilated"])


def _dilated(x: jax.Array, kernel: jax.Array, *, strides: Sequence[int], precision: lax.PrecisionLike) -> jax.Array:
  sides = [(taps + stride) // 2 - 1 for taps, stride in zip(kernel.shape[:3], strides, strict=True)]
  pads = [(side, side) for side in sides]
  options: dict[str, Any] = {"dimension_numbers": ("NTHWC", "THWIO", "NTHWC"), "precision": precision}
  flipped = jnp.flip(kernel, axis=(0, 1, 2))
  return lax.conv_general_dilated(x, flipped, (1, 1, 1), pads, lhs_dilation=strides, **options)


def _phases(x: jax.Array, kernel: jax.Array, *, strides: Sequence[int], precision: lax.PrecisionLike) -> jax.Array:
  taps = [
    [_phase_taps(size, stride, phase) for phase in range(stride)]
    for size, stride in zip(kernel.shape[:3], strides, strict=True)
  ]
  parts = []
  for chosen in itertools.product(*taps):
    part = kernel
    for axis, (indices, _) in enumerate(chosen):
      # A slice and not a gather, whose gradient would be a scatter.
      part = lax.rev(lax.slice_in_dim(part, indices[-1], indices[0] + 1, strides[axis], axis), (axis,))
    parts.append(convolve(x, part, padding=[padding for _, padding in chosen], precision=precision))
  batch, frames, height, width, _ = x.shape
  stacked = jnp.stack(parts).reshape(*strides, batch, frames, height, width, -1)
  interleaved = stacked.transpose(3, 4, 0, 5, 1, 6, 2, 7)
  sizes = (size * stride for size, stride in zip(x.shape[1:4], strides, strict=True))
  return interleaved.reshape(batch, *sizes, -1)


_FORMS = {"dilated": _dilated, "phases": _phases}


def _phase_taps(size: int, stride: int, phase: int) -> tuple[list[int], tuple[int, int]]:
  """The kernel's taps of one phase of the output, in the order of their inputs, and its padding.

  Output S m + r reads input m + j with tap k = r + P - S j.
  """
  padding = (size - stride) // 2
  first = math.ceil((phase + padding - size + 1) / stride)
  last = (phase + padding) // stride
  return [phase + padding - stride * j for j in range(first, last + 1)], (-first, last)


class ConvTranspose3D(Conv3D):
  """Transposed convolution that maps [B, T, H, W, C] to [B, S T, S H, S W, features]; it ignores `padding`."""

  kernel_size: tuple[int, ...] = (3, 4, 4)
  strides: tuple[int, ...] | None = (1, 2, 2)
  precision: lax.PrecisionLike = None

  def _convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve_transposed(x, kernel, strides=self.strides or (1, 1, 1), precision=self.precision)
