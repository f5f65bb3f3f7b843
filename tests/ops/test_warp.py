"""Kernel-based warping against loops of eqs. 11 and 12 of TrIVD-GAN-FP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops.warp import combine_kernels, warp


def _warp_loop(h: np.ndarray, weights: np.ndarray) -> np.ndarray:
  batch, height, width, channels = h.shape
  k = round(weights.shape[-1] ** 0.5)
  out = np.zeros_like(h)
  for b, i, j, c in np.ndindex(batch, height, width, channels):
    for m, n in np.ndindex(k, k):
      y, x = i + m - (k - 1) // 2, j + n - (k - 1) // 2
      if 0 <= y < height and 0 <= x < width:
        out[b, i, j, c] += weights[b, i, j, m * k + n] * h[b, y, x, c]
  return out


@pytest.mark.parametrize("k", [3, 5])
def test_warp_against_a_loop(k):
  rng = np.random.default_rng(k)
  h, weights = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(2, 4, 5, k * k))
  warped = warp(jnp.asarray(h, jnp.float32), jnp.asarray(weights, jnp.float32))
  np.testing.assert_allclose(warped, _warp_loop(h, weights), rtol=1e-5, atol=1e-5)


def test_the_central_tap_copies():
  h = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5, 3)), jnp.float32)
  weights = jnp.broadcast_to(jax.nn.one_hot(4, 9), (2, 4, 5, 9))
  np.testing.assert_array_equal(warp(h, weights), h)


def test_a_tap_above_shifts_the_image_down_with_zero_padding():
  h = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
  # m = 0, n = 1: each position takes what stands above it.
  weights = jnp.broadcast_to(jax.nn.one_hot(1, 9), (1, 2, 2, 9))
  np.testing.assert_array_equal(warp(h, weights)[0, :, :, 0], [[0.0, 0.0], [1.0, 2.0]])
  # m = 1, n = 2: each takes its right neighbour.
  weights = jnp.broadcast_to(jax.nn.one_hot(5, 9), (1, 2, 2, 9))
  np.testing.assert_array_equal(warp(h, weights)[0, :, :, 0], [[2.0, 0.0], [4.0, 0.0]])


def test_combine_kernels_against_a_loop():
  rng = np.random.default_rng(0)
  basis, selection = rng.normal(size=(2, 9, 4)), rng.normal(size=(2, 3, 5, 4))
  expected = np.zeros((2, 3, 5, 9))
  for b, i, j, q in np.ndindex(*expected.shape):
    expected[b, i, j, q] = sum(selection[b, i, j, n] * basis[b, q, n] for n in range(4))
  combined = combine_kernels(jnp.asarray(basis, jnp.float32), jnp.asarray(selection, jnp.float32))
  np.testing.assert_allclose(combined, expected, rtol=1e-5, atol=1e-5)


def _sizes(jaxpr) -> list[int]:
  sizes = []
  for equation in jaxpr.eqns:
    sizes += [int(np.prod(variable.aval.shape)) for variable in equation.outvars]
    for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
      if hasattr(value, "eqns"):
        sizes += _sizes(value)
  return sizes


def test_no_array_holds_every_tap_of_every_channel():
  h, weights = jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.float32), jax.ShapeDtypeStruct((2, 8, 8, 9), jnp.float32)

  def gradients(h, weights):
    return jax.grad(lambda h, weights: jnp.sum(jnp.square(warp(h, weights))), argnums=(0, 1))(h, weights)

  padded = 2 * 10 * 10 * 16
  assert padded < 9 * 2 * 8 * 8 * 16
  for function in (warp, gradients):
    sizes = _sizes(jax.make_jaxpr(function)(h, weights).jaxpr)
    assert max(sizes) == padded


def test_the_backward_pass_stores_only_features_and_weights():
  h, weights = jnp.ones((2, 8, 8, 16)), jnp.ones((2, 8, 8, 9))

  def recurrence(h, weights):
    return jax.lax.scan(lambda h, _: (warp(h, weights), None), h, length=5)[0]

  kept = jax.tree.leaves(jax.eval_shape(lambda: jax.vjp(recurrence, h, weights)[1]))
  assert sum(leaf.size for leaf in kept) <= 5 * h.size + 5 * weights.size


def test_gradients_against_differences_of_a_loop():
  rng = np.random.default_rng(0)
  h, weights, seen = rng.normal(size=(1, 3, 4, 2)), rng.normal(size=(1, 3, 4, 9)), rng.normal(size=(1, 3, 4, 2))
  ours = jax.grad(lambda h, w: jnp.sum(jnp.asarray(seen, jnp.float32) * warp(h, w)), argnums=(0, 1))
  found = ours(jnp.asarray(h, jnp.float32), jnp.asarray(weights, jnp.float32))
  for array, gradient in zip((h, weights), found, strict=True):
    expected = np.zeros_like(array)
    for index in np.ndindex(*array.shape):
      values = []
      for step in (0.5, -0.5):  # linear in each: a difference of any width is exact
        array[index] += step
        values.append(np.sum(seen * _warp_loop(h, weights)))
        array[index] -= step
      expected[index] = values[0] - values[1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("taps", [4, 8])
def test_the_number_of_taps_must_be_an_odd_square(taps):
  with pytest.raises(ValueError, match=f"odd k, got {taps}"):
    warp(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2, taps)))
