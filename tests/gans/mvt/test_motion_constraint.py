"""L_M of MVT-GAN against a double loop over pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.mvt.motion_constraint import motion_similarity


def _flows():
  rng = np.random.default_rng(0)
  return rng.normal(size=(5, 3, 4, 4, 2)).astype(np.float32), rng.normal(size=(4, 3, 4, 4, 2)).astype(np.float32)


def test_similarity_against_a_double_loop():
  real, fake = _flows()
  real_label, fake_label = np.array([0, 1, 2, 1, 0]), np.array([1, 1, 3, 0])
  total, count = 0.0, 0
  for j, i in np.ndindex(5, 4):
    if real_label[j] == fake_label[i]:
      total += np.sum(real[j] * fake[i]) / (np.linalg.norm(real[j]) * np.linalg.norm(fake[i]))
      count += 1
  similarity, pairs = jax.jit(motion_similarity, static_argnames="num_classes")(
    real, fake, real_label, fake_label, num_classes=4
  )
  assert (count, float(pairs)) == (6, 6.0)
  assert float(similarity) == pytest.approx(total / count, abs=1e-6)


def test_similarity_of_equal_and_of_opposite_motion():
  real, _ = _flows()
  label = jnp.arange(5)
  assert float(motion_similarity(real, 3 * real, label, label, num_classes=5)[0]) == pytest.approx(1, abs=1e-5)
  assert float(motion_similarity(real, -real, label, label, num_classes=5)[0]) == pytest.approx(-1, abs=1e-5)


def test_gradients_are_finite_without_pairs_and_without_motion():
  real, fake = _flows()

  def loss(fake, fake_label):
    return 1 - motion_similarity(real, fake, jnp.zeros(5, int), fake_label, num_classes=2)[0]

  value, gradient = jax.value_and_grad(loss)(fake, jnp.ones(4, int))
  assert float(value) == 0
  np.testing.assert_array_equal(gradient, np.zeros_like(fake))
  value, gradient = jax.value_and_grad(loss)(jnp.zeros_like(fake), jnp.zeros(4, int))
  assert float(value) == 1
  assert np.isfinite(gradient).all()


def test_real_flows_have_no_gradient():
  real, fake = _flows()
  label = jnp.zeros(5, int)
  gradients = jax.grad(lambda r, f: motion_similarity(r, f, label, label[:4], num_classes=1)[0], argnums=(0, 1))(
    real, fake
  )
  np.testing.assert_array_equal(gradients[0], np.zeros_like(real))
  assert np.abs(gradients[1]).max() > 0
