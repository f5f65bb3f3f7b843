"""Adversarial losses, discriminator heads and penalties. Losses take discriminator outputs of any shape."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from vidgen_jax.ops.devices import all_clips
from vidgen_jax.types import Params

PAIRS_SCOPE = "pairs_of_clips"
"""Scope of operations that combine clips of different devices, in compiled programs."""


def hinge_discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Mean relu(1 + D(fake)) + mean relu(1 - D(real)) (geometric GAN; TrIVD-GAN-FP, eq. 13); float32 scalar."""
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  return jnp.mean(jax.nn.relu(1.0 + fake)) + jnp.mean(jax.nn.relu(1.0 - real))


def hinge_generator_loss(fake: jax.Array) -> jax.Array:
  """-mean D(fake) (TrIVD-GAN-FP, eq. 14); float32 scalar."""
  return -jnp.mean(fake.astype(jnp.float32))


def log_discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
  """-mean log D(real) - mean log(1 - D(fake)) from logits (Goodfellow et al. 2014; Inbetweening, eqs. 7 and 8).

  Returns a float32 scalar.
  """
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def nonsaturating_generator_loss(fake: jax.Array) -> jax.Array:
  """-mean log D(fake) from logits (Goodfellow et al. 2014; Inbetweening, eq. 9); float32 scalar."""
  return jnp.mean(jax.nn.softplus(-fake.astype(jnp.float32)))


def mixed_projection(unconditional: jax.Array, conditional: jax.Array) -> jax.Array:
  """Outputs [B, B, T] of the mixed projection discriminator from r_x and r_xy, both [B, T] (TrIVD-GAN-FP, eq. 15).

  o[b, b', t] = r_x[b, t] + sum over t' of r_xy[b', t']: the unconditional score of each clip is paired with the class
  score of every clip of the batch, across devices: under `jax.shard_map` a device has [B / devices, B, T] of them.
  """
  with jax.named_scope(PAIRS_SCOPE):
    return unconditional[:, None, :] + all_clips(jnp.sum(conditional, axis=1))[None, :, None]


def projection(unconditional: jax.Array, conditional: jax.Array) -> jax.Array:
  """Outputs [B] of the projection discriminator (Miyato & Koyama 2018): o[b] = sum over t of r_x[b, t] + r_xy[b, t]."""
  return jnp.sum(unconditional + conditional, axis=1)


def off_diagonal_gram(kernel: jax.Array) -> jax.Array:
  """Squared Frobenius norm of the off-diagonal part of W^T W (BigGAN, eq. 3); float32 scalar.

  W [in, out] is the kernel [..., out] with all leading axes merged.
  """
  matrix = kernel.astype(jnp.float32).reshape(-1, kernel.shape[-1])
  rows, columns = matrix.shape
  # ||W^T W||_F = ||W W^T||_F: form the smaller product, then subtract the diagonal, the squared column norms.
  matrices = (matrix, matrix.T) if rows < columns else (matrix.T, matrix)
  gram = jnp.matmul(*matrices, precision=lax.Precision.HIGHEST)
  return jnp.sum(jnp.square(gram)) - jnp.sum(jnp.square(jnp.sum(jnp.square(matrix), axis=0)))


def orthogonality(params: Params) -> jax.Array:
  """Sum of `off_diagonal_gram` over all kernels of a network; float32 scalar.

  Kernels are the leaves whose name starts with 'kernel'. Biases, gains and class embeddings are excluded, as in BigGAN.
  """
  total = jnp.zeros(())
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if path[-1].key.startswith("kernel"):
      total = total + off_diagonal_gram(leaf)
  return total


def logits_and_gradients(critic: Callable[[jax.Array], jax.Array], inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Logits [B] of a discriminator, and the squared Euclidean norms [B] of d(logit) / d(input), both differentiable.

  `critic` maps inputs [B, ...] to float32 [B]; each logit depends on its own input only (no batch normalisation).
  """
  logits, pullback = jax.vjp(critic, inputs)
  (gradients,) = pullback(jnp.ones_like(logits))
  return logits, jnp.sum(jnp.square(gradients.astype(jnp.float32)), axis=tuple(range(1, inputs.ndim)))


def gradient_penalty(real: tuple[jax.Array, jax.Array], fake: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Mean (1 - D)^2 |d(logit)/dx|^2 on real inputs plus mean D^2 |d(logit)/dx|^2 on generated ones, D = sigmoid(logit).

  The regulariser of Roth et al. 2017 (eq. 21 with gradients of logits) without its weight gamma / 2. As in their code,
  the factors (1 - D)^2 and D^2 are differentiated. The arguments are results of `logits_and_gradients`; returns a
  float32 scalar.
  """
  on_real = jnp.square(jax.nn.sigmoid(-real[0])) * real[1]
  on_fake = jnp.square(jax.nn.sigmoid(fake[0])) * fake[1]
  return jnp.mean(on_real) + jnp.mean(on_fake)
