"""Loss terms of SR-cGAN, and the normal distributions of its autoencoders."""

import flax.struct
import jax
import jax.numpy as jnp

from vidgen_jax.gans.common import draw_latent
from vidgen_jax.types import PRNGKey, Video

FRAME_VALUES = 32 * 32 * 3
"""Values (height x width x channels) of a frame for which the weights of reconstruction errors hold."""

CLIP_VALUES = 16 * FRAME_VALUES
"""Values of a clip for which the weight of its reconstruction error holds."""


@flax.struct.dataclass
class Gaussian:
  """N(mean, exp(log_variance)), one distribution per leading index; both are float32 [..., D]."""

  mean: jax.Array
  log_variance: jax.Array

  def sample(self, key: PRNGKey) -> jax.Array:
    """A reparametrised sample (Kingma and Welling 2014, 2.4), [..., D]."""
    return self.at(draw_latent(key, self.mean.shape))

  def at(self, deviations: jax.Array) -> jax.Array:
    """The mean plus `deviations` [..., D] standard deviations, [..., D]."""
    return self.mean + jnp.exp(0.5 * self.log_variance) * deviations


def time_cross_entropy(logits: jax.Array) -> jax.Array:
  """L_anchor: the sum over steps i of -log p(step i is time i), averaged over clips (eq. 10).

  `logits` are those of the N times at each of N steps, float32 [B, N, N]; uniform logits give N log N.
  """
  correct = jnp.diagonal(jax.nn.log_softmax(logits, axis=-1), axis1=1, axis2=2)
  return -jnp.mean(jnp.sum(correct, axis=-1))


def divergence(posterior: Gaussian) -> jax.Array:
  """KL divergence from N(0, I) in nats, averaged over all latents (L_prior of eq. 2, and of eq. 9).

  Kingma and Welling 2014, appendix B; summed over the components.
  """
  variance = jnp.exp(posterior.log_variance)
  terms = jnp.square(posterior.mean) + variance - posterior.log_variance - 1.0
  return jnp.mean(0.5 * jnp.sum(terms, axis=-1))


def frame_error(frames: Video, truth: Video) -> jax.Array:
  """Sum of squared differences over a frame, averaged over frames (L_recon of eqs. 2 and 3)."""
  return jnp.mean(jnp.sum(jnp.square(frames.astype(jnp.float32) - truth), axis=(2, 3, 4)))


def clip_error(video: Video, truth: Video) -> jax.Array:
  """Sum of squared differences over a clip, averaged over clips (L_recon of eq. 9)."""
  return frame_error(video, truth) * video.shape[1]
