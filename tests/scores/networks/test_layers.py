"""Max pooling against numpy and by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.scores.networks.layers import max_pool


def _reference(x, window, strides, pads):
  x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-np.inf)
  sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:4], window, strides, strict=True)]
  y = np.empty((x.shape[0], *sizes, x.shape[-1]), x.dtype)
  for place in itertools.product(*map(range, sizes)):
    corner = [slice(i * s, i * s + k) for i, s, k in zip(place, strides, window, strict=True)]
    y[(slice(None), *place)] = x[(slice(None), *corner)].max(axis=(1, 2, 3))
  return y


@pytest.mark.parametrize(
  ("window", "strides", "padding", "pads"),
  [
    # SAME on [5, 6, 7]. 3x3x3 of stride 2: (3-1)*2+3-5 = 2, (3-1)*2+3-6 = 1, (4-1)*2+3-7 = 2 pixels of padding.
    ((3, 3, 3), (2, 2, 2), "SAME", ((1, 1), (0, 1), (1, 1))),
    ((3, 3, 3), (1, 1, 1), "SAME", ((1, 1),) * 3),
    ((1, 3, 3), (1, 2, 2), "SAME", ((0, 0), (0, 1), (1, 1))),
    ((2, 2, 2), (2, 2, 2), "SAME", ((0, 1), (0, 0), (0, 1))),
    ((1, 2, 2), (1, 2, 2), "VALID", ((0, 0),) * 3),
    ((3, 3, 3), (2, 2, 2), ((1, 1),) * 3, ((1, 1),) * 3),
  ],
)
def test_equals_the_maximum_of_every_window(window, strides, padding, pads):
  # Negative values: padding by zeros would win.
  x = np.random.default_rng(0).normal(-3, 1, (2, 5, 6, 7, 2)).astype(np.float32)
  np.testing.assert_array_equal(max_pool(x, window, strides, padding=padding), _reference(x, window, strides, pads))


def test_gradient_goes_to_the_maximum():
  # 1 5 | 2 3 | 4, the last window padded: the gradient of the sum is 0 1 0 1 1.
  row = jnp.array([1.0, 5, 2, 3, 4]).reshape(1, 1, 1, 5, 1)
  pool = lambda x: max_pool(x, (1, 1, 2), (1, 1, 2), padding=((0, 0), (0, 0), (0, 1))).sum()
  np.testing.assert_array_equal(np.ravel(jax.grad(pool)(row)), [0, 1, 0, 1, 1])
  # Overlapping: 5 is the maximum of (1 5 2) and of (5 2 3), 4 the maximum of (2 3 4).
  overlapping = lambda x: max_pool(x, (1, 1, 3), (1, 1, 1)).sum()
  np.testing.assert_array_equal(np.ravel(jax.grad(overlapping)(row)), [0, 2, 0, 0, 1])
