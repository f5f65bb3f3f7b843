"""The orthogonality penalty against ||W^T W o (1 - I)||^2, formed in full."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops import penalties


def _masked_gram(matrix: np.ndarray) -> np.ndarray:
  return (matrix.T @ matrix) * (1 - np.eye(matrix.shape[1]))


def test_off_diagonal_gram_by_hand():
  # W^T W = [[1, 1], [1, 2]].
  assert float(penalties.off_diagonal_gram(jnp.array([[1.0, 1.0], [0.0, 1.0]]))) == pytest.approx(2.0)
  # A wide row: W^T W = [[1, 2, 3], [2, 4, 6], [3, 6, 9]], 2 (4 + 9 + 36).
  assert float(penalties.off_diagonal_gram(jnp.array([[1.0, 2.0, 3.0]]))) == pytest.approx(98.0)
  # Orthogonal columns of any length cost nothing.
  assert float(penalties.off_diagonal_gram(jnp.array([[3.0, 0.0], [0.0, 5.0], [0.0, 0.0]]))) == pytest.approx(0.0)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (3, 3, 2, 5), (1, 1, 2, 7), (3, 3, 3, 2, 4)], ids=str)
def test_value_and_gradient_against_numpy(shape):
  kernel = np.random.default_rng(0).normal(size=shape)
  matrix = kernel.reshape(-1, shape[-1])
  value, gradient = jax.jit(jax.value_and_grad(penalties.off_diagonal_gram))(jnp.asarray(kernel, jnp.float32))
  assert float(value) == pytest.approx(np.sum(_masked_gram(matrix) ** 2), rel=1e-5)
  # d/dW ||W^T W o (1 - I)||^2 = 4 W (W^T W o (1 - I)).
  expected = (4 * matrix @ _masked_gram(matrix)).reshape(shape)
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-3)


def test_only_kernels_are_penalised():
  wide = jnp.array([[1.0, 2.0, 3.0]])
  params = {
    "unit": {"kernel_r": wide, "bias_r": jnp.array([5.0, 6.0])},
    "conv": {"kernel": wide[None, None], "bias": jnp.array([7.0, 8.0])},
    "norm": {"scale": jnp.array([1.0, 1.0])},
    "class_embedding": {"embedding": wide},
  }
  assert float(penalties.orthogonality(params)) == pytest.approx(2 * 98.0)


def test_the_penalty_is_float32():
  assert penalties.off_diagonal_gram(jnp.ones((2, 2), jnp.bfloat16)).dtype == jnp.float32
