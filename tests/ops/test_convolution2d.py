"""Convolutions of images and their gradients against JAX's own, and their programs on each platform."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vidgen_jax.ops.convolution2d import convolve_images

ORDERS = ("NHWC", "HWIO", "NHWC")
# (images, kernel, strides, pads): odd pads, strides with and without a remainder, windows that skip pixels.
CASES = [
  ((2, 7, 6, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1))),
  ((2, 9, 8, 3), (3, 5, 3, 4), (2, 3), ((0, 1), (2, 2))),
  ((1, 5, 5, 2), (4, 4, 2, 3), (2, 1), ((1, 2), (0, 0))),
  ((2, 8, 8, 2), (1, 1, 2, 5), (2, 2), ((0, 0), (0, 0))),
  ((2, 8, 8, 2), (3, 3, 2, 5), (3, 3), ((0, 0), (0, 0))),
]


def _functions(strides, pads):
  """Our convolution and JAX's."""
  ours = lambda x, kernel: convolve_images(x, kernel, strides=strides, pads=pads, precision=None)
  jaxs = lambda x, kernel: lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=ORDERS)
  return ours, jaxs


def _draw(shape, seed):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _gradients(function):
  return jax.grad(lambda x, kernel: jnp.sum(jnp.tanh(function(x, kernel))), (0, 1))


def _second_gradients(function):
  return jax.grad(lambda x, kernel: sum(map(jnp.sum, map(jnp.sin, _gradients(function)(x, kernel)))), (0, 1))


def _tangents(function):
  return lambda x, kernel: jax.jvp(function, (x, kernel), (kernel.sum() * x, kernel))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("derive", [lambda f: f, _gradients, _second_gradients, _tangents])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_values_and_derivatives_equal_jaxs(case, derive, wrap):
  images, window, strides, pads = case
  x, kernel = _draw(images, 0), _draw(window, 1)
  found, expected = (wrap(derive(function))(x, kernel) for function in _functions(strides, pads))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_batched_kernels():
  ours, jaxs = _functions((1, 1), ((1, 1), (1, 1)))
  x, kernels = _draw((2, 5, 5, 3), 0), _draw((4, 3, 3, 3, 2), 1)
  found = jax.vmap(ours, (None, 0))(x, kernels)
  np.testing.assert_allclose(found[2], jaxs(x, kernels[2]), rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_bfloat16():
  ours, _ = _functions((1, 1), ((1, 1), (1, 1)))
  x, kernel = _draw((1, 4, 4, 2), 0).astype(jnp.bfloat16), _draw((3, 3, 2, 2), 1).astype(jnp.bfloat16)
  assert {leaf.dtype for leaf in _gradients(ours)(x, kernel)} == {jnp.dtype(jnp.bfloat16)}


def _lowered(function, platform):
  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 8, 8, 3), (3, 3, 3, 4))]
  text = jax.jit(_gradients(function)).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
  return [re.sub(r"%\w+", "", line).strip() for line in text.splitlines() if "stablehlo." in line]


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_jaxs_program(platform):
  ours, jaxs = (_lowered(function, platform) for function in _functions((1, 1), ((1, 1), (1, 1))))
  assert ours == jaxs


def test_on_cpu_all_convolutions_have_the_order_that_is_fast_in_loops():
  ours, _ = _functions((1, 1), ((1, 1), (1, 1)))
  orders = [re.search(r"dim_numbers = (\S.*?), window", line) for line in _lowered(ours, "cpu")]
  assert [order.group(1) for order in orders if order] == ["[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"] * 3
