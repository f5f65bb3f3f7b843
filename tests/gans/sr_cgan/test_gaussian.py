"""Normal distributions of variational autoencoders, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.gans.sr_cgan.losses import Gaussian, divergence


def test_divergence_by_hand():
  # N(1, 4) gives (1 + 4 - log 4 - 1) / 2, N(0, 1) gives 0; components are summed, latents averaged.
  gaussian = Gaussian(
    mean=jnp.array([[1.0, 0.0], [0.0, 0.0]]), log_variance=jnp.log(jnp.array([[4.0, 1.0], [1.0, 1.0]]))
  )
  np.testing.assert_allclose(divergence(gaussian), (4 - math.log(4)) / 4, rtol=1e-6)


def test_samples_have_the_right_moments_and_gradients():
  gaussian = Gaussian(mean=jnp.full((4000, 2), 3.0), log_variance=jnp.full((4000, 2), 2 * math.log(0.5)))
  drawn = np.asarray(gaussian.sample(jax.random.key(0)))
  np.testing.assert_allclose(drawn.mean(axis=0), 3.0, atol=0.05)
  np.testing.assert_allclose(drawn.std(axis=0), 0.5, atol=0.03)
  np.testing.assert_allclose(gaussian.at(jnp.full((4000, 2), -2.0)), 2.0, rtol=1e-6)

  def total(mean, log_variance):
    return jnp.sum(Gaussian(mean=mean, log_variance=log_variance).at(jnp.array([2.0])))

  # d/d(log v) of m + sqrt(v) e is sqrt(v) e / 2.
  slopes = jax.grad(total, argnums=(0, 1))(jnp.array([1.0]), jnp.array([2 * math.log(3.0)]))
  np.testing.assert_allclose(slopes, [[1.0], [3.0]], rtol=1e-6)
