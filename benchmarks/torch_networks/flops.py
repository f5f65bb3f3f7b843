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


def _convolution(x: Sequence[int], w: Sequence[int], _: Any, *window: Any, out_shape: Sequence[int], **__: Any) -> int:
  stride, padding, dilation, transposed, *_ = window
  # A transposed convolution has the products of the convolution that maps its output to its input.
  large, small = (out_shape, x) if transposed else (x, out_shape)
  taps = 1
  for i in range(len(x) - 2):
    first = np.arange(small[2 + i])[:, None] * stride[i] - padding[i]
    index = first + np.arange(w[2 + i]) * dilation[i]
    taps *= int(np.sum((index >= 0) & (index < large[2 + i])))
  # The weight's first two axes are the features and the inputs of one group.
  return 2 * x[0] * math.prod(w[:2]) * taps


def _convolution_backward(grad: Sequence[int], x: Sequence[int], w: Sequence[int], *rest: Any, **_: Any) -> int:
  *window, mask = rest
  # As many products for each of the gradients of inputs and weights.
  return sum(mask[:2]) * _convolution(x, w, *window, out_shape=grad)
