"""2-D convolution of images whose gradients are fast inside of loops on CPU as well.

XLA's CPU compiler brings convolutions with other than its standard order of axes into that order only in the entry
computation of a program. JAX expresses the gradients of a convolution as convolutions with swapped axes, so in the body
of a loop they ran 10 to 20 times slower. The primitive of this module transposes the operands itself on CPU, which
gives the same numbers at the same speed everywhere. On other platforms its programs are those of
`jax.lax.conv_general_dilated`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Pads = tuple[tuple[int, int], ...]
Orders = tuple[str, str, str]
"""Orders of the axes of images, kernel and result, in JAX's letters."""

_STANDARD: Orders = ("NHWC", "HWIO", "NHWC")
# The gradient of the kernel is a sum over images, so images and channels change places.
_KERNEL_GRADIENT: Orders = ("CHWN", "IHWO", "HWNC")
_IMAGE_GRADIENT: Orders = ("NHWC", "HWOI", "NHWC")


def convolve_images(
  images: jax.Array, kernel: jax.Array, *, strides: Sequence[int], pads: Pads, precision: lax.PrecisionLike
) -> jax.Array:
  """Convolves images [N, H, W, C] with a kernel [kh, kw, C, out] of the same dtype to [N, H', W', out].

  `pads` are (before, after) for height and width.
  """
  window = {"window_strides": tuple(strides), "padding": pads, "lhs_dilation": (1, 1), "rhs_dilation": (1, 1)}
  return convolution_p.bind(images, kernel, dimension_numbers=_STANDARD, precision=precision, **window)


convolution_p = Primitive("convolve_images")
"""Its parameters are arguments of `jax.lax.conv_general_dilated`."""


def _in_standard_order(images: jax.Array, kernel: jax.Array, *, dimension_numbers: Orders, **window: Any) -> jax.Array:
  images, kernel = map(_reordered, (images, kernel), dimension_numbers, _STANDARD)
  result = lax.conv_general_dilated(images, kernel, dimension_numbers=_STANDARD, **window)
  return _reordered(result, _STANDARD[2], dimension_numbers[2])


def _reordered(x: jax.Array, order: str, wanted: str) -> jax.Array:
  return x if order == wanted else x.transpose([order.index(axis) for axis in wanted])


def _spans(shape: Sequence[int], order: str, dilation: Sequence[int]) -> list[int]:
  """Height and width of a dilated operand."""
  return [(shape[order.index(axis)] - 1) * factor + 1 for axis, factor in zip("HW", dilation, strict=True)]


def _shape(images: Any, kernel: Any, **params: Any) -> Any:
  orders = params["dimension_numbers"]
  lengths = _spans(images.shape, orders[0], params["lhs_dilation"])
  windows = _spans(kernel.shape, orders[1], params["rhs_dilation"])
  size = {"N": images.shape[orders[0].index("N")], "C": kernel.shape[orders[1].index("O")]}
  for i, axis in enumerate("HW"):
    size[axis] = (lengths[i] + sum(params["padding"][i]) - windows[i]) // params["window_strides"][i] + 1
  return images.update(shape=tuple(size[axis] for axis in orders[2]))


def _full_padding(lengths: list[int], windows: list[int], outputs: list[int], params: dict[str, Any]) -> Pads:
  """Padding with which the gradient of the images, [length], is a convolution of the outputs' with the window."""
  sizes = zip(lengths, windows, outputs, params["padding"], strict=True)
  befores = [(length, window, output, window - 1 - before) for length, window, output, (before, _) in sizes]
  return tuple((before, length + window - 1 - output - before) for length, window, output, before in befores)


def _image_gradient(ct: jax.Array, images: Any, kernel: jax.Array, **params: Any) -> jax.Array:
  orders, strides, dilation = params["dimension_numbers"], params["window_strides"], params["lhs_dilation"]
  ct, kernel = _reordered(ct, orders[2], "NHWC"), _reordered(kernel, orders[1], "HWIO")
  lengths, outputs = _spans(images.aval.shape, orders[0], dilation), _spans(ct.shape, "NHWC", strides)
  padding = _full_padding(lengths, _spans(kernel.shape, "HWIO", params["rhs_dilation"]), outputs, params)
  window = {"window_strides": dilation, "padding": padding, "lhs_dilation": strides}
  flipped = lax.rev(kernel, (0, 1))
  result = convolution_p.bind(ct, flipped, **params | window | {"dimension_numbers": _IMAGE_GRADIENT})
  return _reordered(result, "NHWC", orders[0])


def _kernel_gradient(ct: jax.Array, images: jax.Array, kernel: Any, **params: Any) -> jax.Array:
  orders, strides, dilation = params["dimension_numbers"], params["window_strides"], params["rhs_dilation"]
  ct, images = _reordered(ct, orders[2], "NHWC"), _reordered(images, orders[0], "NHWC")
  lengths, outputs = _spans(images.shape, "NHWC", params["lhs_dilation"]), _spans(ct.shape, "NHWC", strides)
  windows = _spans(kernel.aval.shape, orders[1], dilation)
  if max(params["lhs_dilation"]) > 1 and strides == dilation == (1, 1):
    # The gradient of a gradient. With the images as dilated kernel, no product with an inserted zero is computed.
    padding = _full_padding(lengths, windows, outputs, params)
    window = {"padding": padding, "rhs_dilation": params["lhs_dilation"], "lhs_dilation": (1, 1)}
    swapped = convolution_p.bind(ct, images, **params | window | {"dimension_numbers": _KERNEL_GRADIENT})
    return _reordered(lax.rev(swapped, (0, 1)).transpose(0, 1, 3, 2), "HWIO", orders[1])
  sizes = zip(lengths, windows, outputs, params["padding"], strict=True)
  padding = tuple((before, window - 1 + output - length - before) for length, window, output, (before, _) in sizes)
  window = {"window_strides": dilation, "padding": padding, "rhs_dilation": strides}
  result = convolution_p.bind(images, ct, **params | window | {"dimension_numbers": _KERNEL_GRADIENT})
  return _reordered(result, "HWIO", orders[1])


def _batched(operands: Sequence[jax.Array], axes: Sequence[Any], **params: Any) -> tuple[jax.Array, int]:
  convolve = functools.partial(lax.conv_general_dilated, **params)
  return jax.vmap(convolve, in_axes=tuple(axes))(*operands), 0


_compiled = functools.cache(lambda **params: jax.jit(functools.partial(lax.conv_general_dilated, **params)))
convolution_p.def_impl(lambda images, kernel, **params: _compiled(**params)(images, kernel))
convolution_p.def_abstract_eval(_shape)
ad.defbilinear(convolution_p, _image_gradient, _kernel_gradient)
batching.primitive_batchers[convolution_p] = _batched
mlir.register_lowering(convolution_p, mlir.lower_fun(lax.conv_general_dilated, multiple_results=False))
mlir.register_lowering(convolution_p, mlir.lower_fun(_in_standard_order, multiple_results=False), platform="cpu")
