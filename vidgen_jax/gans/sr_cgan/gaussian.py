"""Diagonal normal distributions of variational autoencoders."""

import flax.struct
import jax
import jax.numpy as jnp

from vidgen_jax.types import PRNGKey


@flax.struct.dataclass
class Gaussian:
  """N(mean, exp(log_variance)), one distribution per leading index."""

  mean: jax.Array
  """float32 [..., D]."""
  log_variance: jax.Array
  """float32 [..., D]."""

  def sample(self, key: PRNGKey) -> jax.Array:
    """A reparametrised sample (Kingma and Welling 2014, 2.4), [..., D]."""
    noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
    return self.at(noise)

  def at(self, deviations: jax.Array) -> jax.Array:
    """The mean plus `deviations` [..., D] standard deviations, [..., D]."""
    return self.mean + jnp.exp(0.5 * self.log_variance) * deviations


def kl_to_standard_normal(gaussian: Gaussian) -> jax.Array:
  """KL(N(mean, variance) || N(0, I)) in nats (Kingma and Welling 2014, appendix B).

  Args:
    gaussian: distributions [..., D].

  Returns:
    Divergences [...], summed over the components.
  """
  variance = jnp.exp(gaussian.log_variance)
  return 0.5 * jnp.sum(jnp.square(gaussian.mean) + variance - gaussian.log_variance - 1.0, axis=-1)
