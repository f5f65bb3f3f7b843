"""The orthogonality penalty against ||W^T W o (1 - I)||^2, formed in full; the gradient penalty against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops import losses


def _masked_gram(matrix: np.ndarray) -> np.ndarray:
  return (matrix.T @ matrix) * (1 - np.eye(matrix.shape[1]))


def test_off_diagonal_gram_by_hand():
  # W^T W = [[1, 1], [1, 2]].
  assert float(losses.off_diagonal_gram(jnp.array([[1.0, 1.0], [0.0, 1.0]]))) == pytest.approx(2.0)
  # A wide row: W^T W = [[1, 2, 3], [2, 4, 6], [3, 6, 9]], 2 (4 + 9 + 36).
  assert float(losses.off_diagonal_gram(jnp.array([[1.0, 2.0, 3.0]]))) == pytest.approx(98.0)
  # Orthogonal columns of any length cost nothing.
  assert float(losses.off_diagonal_gram(jnp.array([[3.0, 0.0], [0.0, 5.0], [0.0, 0.0]]))) == pytest.approx(0.0)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (3, 3, 2, 5), (1, 1, 2, 7), (3, 3, 3, 2, 4)], ids=str)
def test_value_and_gradient_against_numpy(shape):
  kernel = np.random.default_rng(0).normal(size=shape)
  matrix = kernel.reshape(-1, shape[-1])
  value, gradient = jax.jit(jax.value_and_grad(losses.off_diagonal_gram))(jnp.asarray(kernel, jnp.float32))
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
  assert float(losses.orthogonality(params)) == pytest.approx(2 * 98.0)


def test_the_penalty_is_float32():
  assert losses.off_diagonal_gram(jnp.ones((2, 2), jnp.bfloat16)).dtype == jnp.float32


def test_logits_and_gradients_against_differences():
  rng = np.random.default_rng(0)
  first, second = rng.normal(size=(2, 2, 3, 4)), rng.normal(size=4)
  inputs = rng.normal(size=(3, 2, 2, 3))

  def logit(x):
    return np.tanh(np.einsum("hwc,hwcd->d", x, first)) @ second

  expected = np.zeros(3)
  for b in range(3):
    for place in np.ndindex(2, 2, 3):
      step = np.zeros((2, 2, 3))
      step[place] = 1e-5
      expected[b] += ((logit(inputs[b] + step) - logit(inputs[b] - step)) / 2e-5) ** 2

  def critic(x):
    x = jnp.tanh(jnp.einsum("bhwc,hwcd->bd", x, jnp.asarray(first, jnp.float32), precision="highest"))
    return jnp.matmul(x, jnp.asarray(second, jnp.float32), precision="highest")

  logits, norms = losses.logits_and_gradients(critic, jnp.asarray(inputs, jnp.float32))
  np.testing.assert_allclose(logits, [logit(x) for x in inputs], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(norms, expected, rtol=1e-4)
  # The examples differ, so an exchange would show.
  assert np.ptp(expected) > 0.1 * expected.max()


def test_gradient_norms_of_bfloat16_inputs_are_summed_in_float32():
  # A thousand squares of 1: in bfloat16 a sum of ones stops at 256.
  _, norms = losses.logits_and_gradients(
    lambda x: jnp.sum(x, axis=1, dtype=jnp.float32), jnp.zeros((2, 1000), jnp.bfloat16)
  )
  assert norms.dtype == jnp.float32
  np.testing.assert_array_equal(norms, [1000.0, 1000.0])


def test_gradient_penalty_by_hand():
  # D = 3/4 and 1/4 on real clips: (1 - D)^2 = 1/16 and 9/16. D = 3/4 on the one generated: D^2 = 9/16.
  real, fake = jnp.log(jnp.array([3.0, 1 / 3])), jnp.log(jnp.array([3.0]))
  penalty = losses.gradient_penalty((real, jnp.array([32.0, 16.0])), (fake, jnp.array([48.0])))
  assert penalty.dtype == jnp.float32
  assert float(penalty) == pytest.approx((32 / 16 + 16 * 9 / 16) / 2 + 48 * 9 / 16, rel=1e-6)


def test_the_factors_of_the_gradient_penalty_are_differentiated():
  # At D = 1/2: d/dl (1 - D)^2 = -2 (1 - D) D (1 - D) = -1/4 on real clips, d/dl D^2 = 2 D D (1 - D) = 1/4 on generated.
  zero, norms = jnp.zeros(2), jnp.array([4.0, 8.0])
  real = jax.grad(lambda logits: losses.gradient_penalty((logits, norms), (zero, jnp.zeros(2))))(zero)
  fake = jax.grad(lambda logits: losses.gradient_penalty((zero, jnp.zeros(2)), (logits, norms)))(zero)
  np.testing.assert_allclose(real, [-0.5, -1.0], rtol=1e-6)
  np.testing.assert_allclose(fake, [0.5, 1.0], rtol=1e-6)


def test_the_gradient_penalty_of_a_saturated_discriminator_is_finite():
  norms = jnp.array([2.0])
  right, wrong = (jnp.array([1e4]), norms), (jnp.array([-1e4]), norms)
  assert float(losses.gradient_penalty(right, wrong)) == 0.0
  assert float(losses.gradient_penalty(wrong, right)) == 4.0
