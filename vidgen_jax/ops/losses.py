"""Adversarial losses and discriminator heads."""

import jax
import jax.numpy as jnp

PAIRS_SCOPE = "pairs_of_clips"
"""Scope of operations that combine clips of different devices, in compiled programs."""


def hinge_discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Mean relu(1 + D(fake)) + mean relu(1 - D(real)) (geometric GAN; TrIVD-GAN-FP, eq. 13).

  Args:
    real: discriminator outputs on real clips, any shape.
    fake: discriminator outputs on generated clips, any shape.

  Returns:
    float32 scalar.
  """
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  return jnp.mean(jax.nn.relu(1.0 + fake)) + jnp.mean(jax.nn.relu(1.0 - real))


def hinge_generator_loss(fake: jax.Array) -> jax.Array:
  """-mean D(fake) (TrIVD-GAN-FP, eq. 14); float32 scalar."""
  return -jnp.mean(fake.astype(jnp.float32))


def log_discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """-mean log D(real) - mean log(1 - D(fake)) from logits (Goodfellow et al. 2014; Inbetweening, eqs. 7 and 8).

  Args:
    real: logits on real clips or frames, any shape.
    fake: logits on generated clips or frames, any shape.

  Returns:
    float32 scalar.
  """
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def nonsaturating_generator_loss(fake: jax.Array) -> jax.Array:
  """-mean log D(fake) from logits (Goodfellow et al. 2014; Inbetweening, eq. 9); float32 scalar."""
  return jnp.mean(jax.nn.softplus(-fake.astype(jnp.float32)))


def mixed_projection(unconditional: jax.Array, conditional: jax.Array) -> jax.Array:
  """Outputs of the mixed projection discriminator (TrIVD-GAN-FP, eq. 15).

  o[b, b', t] = r_x[b, t] + sum over t' of r_xy[b', t']: the unconditional score of each clip is paired with the class
  score of every clip of the batch, across devices.

  Args:
    unconditional: r_x [B, T].
    conditional: r_xy [B, T].

  Returns:
    o [B, B, T].
  """
  with jax.named_scope(PAIRS_SCOPE):
    return unconditional[:, None, :] + jnp.sum(conditional, axis=1)[None, :, None]


def projection(unconditional: jax.Array, conditional: jax.Array) -> jax.Array:
  """Outputs of the projection discriminator (Miyato & Koyama 2018): o[b] = sum over t of r_x[b, t] + r_xy[b, t].

  Args:
    unconditional: r_x [B, T].
    conditional: r_xy [B, T].

  Returns:
    o [B].
  """
  return jnp.sum(unconditional + conditional, axis=1)
