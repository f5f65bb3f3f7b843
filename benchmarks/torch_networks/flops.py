"""FLOPs of a step in PyTorch by the rules of `vidgen_jax.bench.flops`: products only, none with padding."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(run: Callable[[], Any]) -> int:
  """FLOPs of convolutions and matrix products, forward and backward; two per multiply-add.

  PyTorch's own formula for convolutions counts products with padding as well; this one does not.
  """
  aten = torch.ops.aten
  formulas = {aten.convolution: _convolution, aten.convolution_backward: _convolution_backward}
  with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
    run()
  return counter.get_total_flops()


def _convolution(
  x: Sequence[int],
  w: Sequence[int],
  _bias: Any,
  stride: Sequence[int],
  padding: Sequence[int],
  dilation: Sequence[int],
  transposed: bool,
  *_: Any,
  out_shape: Sequence[int],
  **__: Any,
) -> int:
  # A transposed convolution has the products of the convolution that maps its output to its input.
  large, small = (out_shape, x) if transposed else (x, out_shape)
  taps = 1
  for i in range(len(x) - 2):
    first = np.arange(small[2 + i])[:, None] * stride[i] - padding[i]
    index = first + np.arange(w[2 + i]) * dilation[i]
    taps *= int(np.sum((index >= 0) & (index < large[2 + i])))
  # The weight's first two axes are the features and the inputs of one group.
  return 2 * x[0] * math.prod(w[:2]) * taps


def _convolution_backward(
  grad: Sequence[int],
  x: Sequence[int],
  w: Sequence[int],
  _bias: Any,
  stride: Sequence[int],
  padding: Sequence[int],
  dilation: Sequence[int],
  transposed: bool,
  _output_padding: Any,
  _groups: int,
  mask: Sequence[bool],
  *,
  out_shape: Any,
  **__: Any,
) -> int:
  del out_shape
  once = _convolution(x, w, None, stride, padding, dilation, transposed, out_shape=grad)
  return once * (bool(mask[0]) + bool(mask[1]))
