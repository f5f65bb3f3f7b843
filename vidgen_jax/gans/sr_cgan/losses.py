"""Loss terms of SR-cGAN."""

import jax
import jax.numpy as jnp

from vidgen_jax.gans.sr_cgan.gaussian import Gaussian, kl_to_standard_normal
from vidgen_jax.types import Video


def time_cross_entropy(logits: jax.Array) -> jax.Array:
  """L_anchor: the sum over steps i of -log p(step i is time i), averaged over clips (eq. 10).

  Args:
    logits: logits of the N times at each of N steps, float32 [B, N, N].

  Returns:
    float32 scalar; N log N for uniform logits.
  """
  correct = jnp.diagonal(jax.nn.log_softmax(logits, axis=-1), axis1=1, axis2=2)
  return -jnp.mean(jnp.sum(correct, axis=-1))


def divergence(posterior: Gaussian) -> jax.Array:
  """KL divergence from N(0, I) in nats, averaged over all latents (L_prior of eq. 2, and of eq. 9)."""
  return jnp.mean(kl_to_standard_normal(posterior))


def frame_error(frames: Video, truth: Video) -> jax.Array:
  """Sum of squared differences over a frame, averaged over frames (L_recon of eqs. 2 and 3)."""
  return jnp.mean(jnp.sum(jnp.square(frames.astype(jnp.float32) - truth), axis=(2, 3, 4)))


def clip_error(video: Video, truth: Video) -> jax.Array:
  """Sum of squared differences over a clip, averaged over clips (L_recon of eq. 9)."""
  return frame_error(video, truth) * video.shape[1]
