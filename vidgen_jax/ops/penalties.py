"""Penalties on parameters and on gradients of discriminators."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from vidgen_jax.types import Params


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
  """Logits of a discriminator, and the squared norms of their gradients.

  Args:
    critic: function [B, ...] -> float32 [B]; each logit depends on its own example only (no batch normalisation).
    inputs: examples [B, ...].

  Returns:
    (logits [B], squared Euclidean norms of d(logit) / d(input) [B]), both differentiable.
  """
  logits, pullback = jax.vjp(critic, inputs)
  (gradients,) = pullback(jnp.ones_like(logits))
  return logits, jnp.sum(jnp.square(gradients.astype(jnp.float32)), axis=tuple(range(1, inputs.ndim)))


def gradient_penalty(real: tuple[jax.Array, jax.Array], fake: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Mean (1 - D)^2 |d(logit)/dx|^2 on real inputs plus mean D^2 |d(logit)/dx|^2 on generated ones, D = sigmoid(logit).

  The regulariser of Roth et al. 2017 (eq. 21 with gradients of logits) without its weight gamma / 2. As in their code,
  the factors (1 - D)^2 and D^2 are differentiated.

  Args:
    real: logits and squared gradient norms on real inputs, from `logits_and_gradients`.
    fake: logits and squared gradient norms on generated inputs.

  Returns:
    float32 scalar.
  """
  on_real = jnp.square(jax.nn.sigmoid(-real[0])) * real[1]
  on_fake = jnp.square(jax.nn.sigmoid(fake[0])) * fake[1]
  return jnp.mean(on_real) + jnp.mean(on_fake)
