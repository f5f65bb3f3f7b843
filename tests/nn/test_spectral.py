"""Spectral normalisation against numpy's singular value decomposition, and layers with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vidgen_jax.nn.recurrent import RECURRENT_UNITS
from vidgen_jax.nn.spectral import SPECTRAL_STATS, Conv, Dense, Embed, kernel_param, power_iteration


def _kernel(shape, seed: int = 0) -> np.ndarray:
  """A random kernel; the singular values of an orthogonal one would all be 1."""
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _sigma(kernel) -> float:
  return float(np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]), compute_uv=False)[0])


def _iterate(kernel: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """One power iteration in float64: (v, u)."""
  matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
  v = matrix @ np.asarray(u, np.float64)
  v /= np.linalg.norm(v)
  u = matrix.T @ v
  return v, u / np.linalg.norm(u)


class _Kernel(nn.Module):
  """Returns its normalised kernel."""

  shape: tuple[int, ...]
  spectral_norm: bool = True

  @nn.compact
  def __call__(self, *, train: bool) -> jax.Array:
    return kernel_param(self, "kernel", self.shape, spectral_norm=self.spectral_norm, train=train)


def _variables(module: _Kernel, kernel: np.ndarray):
  variables = module.init(jax.random.key(0), train=True)
  return {**variables, "params": {"kernel": jnp.asarray(kernel)}}


@pytest.mark.parametrize("shape", [(6, 4), (3, 3, 2, 5), (2, 7)], ids=str)
def test_sigma_converges_to_the_first_singular_value(shape):
  kernel, module = _kernel(shape), _Kernel(shape)
  variables = _variables(module, kernel)

  @jax.jit
  def converge(variables):
    def body(_, stats):
      _, changed = module.apply({**variables, SPECTRAL_STATS: stats}, train=True, mutable=[SPECTRAL_STATS])
      return changed[SPECTRAL_STATS]

    stats = jax.lax.fori_loop(0, 100, body, variables[SPECTRAL_STATS])
    return module.apply({**variables, SPECTRAL_STATS: stats}, train=False)

  normalised = np.asarray(converge(variables))
  np.testing.assert_allclose(normalised, kernel / _sigma(kernel), rtol=1e-4, atol=1e-6)
  assert _sigma(normalised) == pytest.approx(1.0, abs=1e-4)


def test_training_iterates_once_and_evaluation_does_not_change_u():
  kernel, module = _kernel((6, 4)), _Kernel((6, 4))
  variables = _variables(module, kernel)
  u = variables[SPECTRAL_STATS]["kernel_u"]
  v, next_u = _iterate(kernel, u)
  expected = kernel / (v @ kernel @ next_u)
  for train, u_after in ((True, next_u), (False, u)):
    output, changed = module.apply(variables, train=train, mutable=[SPECTRAL_STATS])
    np.testing.assert_allclose(output, expected, rtol=1e-5)
    np.testing.assert_allclose(changed[SPECTRAL_STATS]["kernel_u"], u_after, rtol=1e-5, atol=1e-6)


def test_initialising_does_not_iterate():
  module = _Kernel((6, 4))
  trained = module.init(jax.random.key(0), train=True)
  np.testing.assert_array_equal(
    trained[SPECTRAL_STATS]["kernel_u"], module.init(jax.random.key(0), train=False)[SPECTRAL_STATS]["kernel_u"]
  )


def test_without_spectral_norm_the_kernel_is_raw_and_stateless():
  module = _Kernel((6, 4), spectral_norm=False)
  assert set(module.init(jax.random.key(0), train=True)) == {"params"}
  np.testing.assert_array_equal(module.apply({"params": {"kernel": _kernel((6, 4))}}, train=True), _kernel((6, 4)))


def test_initial_kernels_are_orthogonal():
  kernel = np.asarray(_Kernel((3, 3, 2, 5)).init(jax.random.key(0), train=False)["params"]["kernel"]).reshape(18, 5)
  np.testing.assert_allclose(kernel.T @ kernel, np.eye(5), atol=1e-5)


def test_the_gradient_of_sigma_is_v_times_u():
  kernel = _kernel((3, 1, 2, 4))
  u = np.random.default_rng(1).normal(size=4)
  u = (u / np.linalg.norm(u)).astype(np.float32)
  gradient = jax.grad(lambda kernel: power_iteration(kernel, jnp.asarray(u))[0])(jnp.asarray(kernel))
  np.testing.assert_allclose(gradient.reshape(6, 4), np.outer(*_iterate(kernel, u)), rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_converged_sigma_is_that_of_the_singular_value():
  kernel = _kernel((6, 4))
  u = np.ones(4, np.float32) / 2
  for _ in range(200):
    _, u = _iterate(kernel, u)
  gradient = jax.grad(lambda kernel: power_iteration(kernel, jnp.asarray(u, jnp.float32))[0])(jnp.asarray(kernel))
  direction = np.random.default_rng(2).normal(size=(6, 4))
  moved = [_sigma(kernel.astype(np.float64) + step * direction) for step in (1e-5, -1e-5)]
  assert float(np.sum(gradient * direction)) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("name", ["conv_gru", "tsru_p"])
def test_a_recurrent_unit_iterates_once_per_call(name):
  unit = RECURRENT_UNITS[name](2)
  x, state = jnp.ones((1, 4, 4, 4, 2)), jnp.ones((1, 4, 4, 2))
  init = functools.partial(unit.init, num_steps=4, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), x, state)
  params = {name: jnp.asarray(_kernel(leaf.shape, i)) for i, (name, leaf) in enumerate(shapes["params"].items())}
  stats = {name: jnp.asarray(_kernel(leaf.shape, i)) for i, (name, leaf) in enumerate(shapes[SPECTRAL_STATS].items())}
  variables = {"params": params, SPECTRAL_STATS: stats}

  def advance(variables):
    return unit.apply(variables, x, state, num_steps=4, train=True, mutable=[SPECTRAL_STATS])[1][SPECTRAL_STATS]

  # Only the power iterations are compiled: the states are unused.
  changed = jax.jit(advance)(variables)
  assert {f"{name}_u" for name in params if name.startswith("kernel")} == set(changed)
  for name, u in changed.items():
    _, expected = _iterate(params[name.removesuffix("_u")], variables[SPECTRAL_STATS][name])
    np.testing.assert_allclose(u, expected, rtol=1e-4, atol=1e-5)


def _convolve_loop(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
  """SAME convolution of [T, H, W, C] with a [kt, kh, kw, in, out] kernel."""
  sizes = kernel.shape[:3]
  padded = np.pad(x, [(k // 2, k // 2) for k in sizes] + [(0, 0)])
  out = np.zeros((*x.shape[:3], kernel.shape[-1]))
  for t, i, j in np.ndindex(*x.shape[:3]):
    window = padded[t : t + sizes[0], i : i + sizes[1], j : j + sizes[2]]
    out[t, i, j] = np.einsum("abcx,abcxo->o", window, kernel)
  return out


@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (3, 3, 3)], ids=str)
def test_convolutions_of_video_against_a_loop(kernel_size):
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)).astype(np.float32)
  kernel, bias = _kernel((*kernel_size, 2, 3)), np.array([0.1, 0.2, 0.3], np.float32)
  params = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
  y = Conv(3, kernel_size, spectral_norm=False).apply({"params": params}, jnp.asarray(x), train=False)
  # A 2-D kernel equals a 3-D kernel over a single frame.
  in_time = kernel if len(kernel_size) == 3 else kernel[None]
  for b in range(2):
    np.testing.assert_allclose(y[b], _convolve_loop(x[b], in_time) + bias, rtol=1e-4, atol=1e-5)


def test_dense_and_embed_against_numpy():
  x, kernel = _kernel((2, 3, 4)), _kernel((4, 5), seed=1)
  params = {"kernel": jnp.asarray(kernel), "bias": jnp.arange(5.0)}
  y = Dense(5, spectral_norm=False).apply({"params": params}, jnp.asarray(x), train=False)
  np.testing.assert_allclose(y, x @ kernel + np.arange(5), rtol=1e-4, atol=1e-5)
  vectors = Embed(4, 5, spectral_norm=False).apply(
    {"params": {"embedding": jnp.asarray(kernel)}}, jnp.array([2, 0, 2]), train=False
  )
  np.testing.assert_array_equal(vectors, kernel[[2, 0, 2]])


@pytest.mark.parametrize("module", [Conv(3, dtype=jnp.bfloat16), Dense(3, dtype=jnp.bfloat16)], ids=["conv", "dense"])
def test_bfloat16_computes_with_float32_parameters(module):
  x = jnp.ones((1, 2, 4, 4, 2))
  variables = module.init(jax.random.key(0), x, train=True)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
  y, changed = module.apply(variables, x, train=True, mutable=[SPECTRAL_STATS])
  assert y.dtype == jnp.bfloat16
  assert changed[SPECTRAL_STATS]["kernel_u"].dtype == jnp.float32
