"""Penalties on parameters, and on the gradients of discriminators."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from vidgen_jax.types import Params


def off_diagonal_gram(kernel: jax.Array) -> jax.Array:
  """The squared Frobenius norm of the off-diagonal part of W^T W (BigGAN, eq. 3).

  The kernel [..., out] is read as a matrix W [in, out]. ||W^T W||_F equals ||W W^T||_F, so the smaller of the two
  products is formed, and the diagonal, the squared column norms, is subtracted.

  Returns:
    float32 scalar.
  """
  matrix = kernel.astype(jnp.float32).reshape(-1, kernel.shape[-1])
  rows, columns = matrix.shape
  matrices = (matrix, matrix.T) if rows < columns else (matrix.T, matrix)
  gram = jnp.matmul(*matrices, precision=lax.Precision.HIGHEST)
  return jnp.sum(jnp.square(gram)) - jnp.sum(jnp.square(jnp.sum(jnp.square(matrix), axis=0)))


def orthogonality(params: Params) -> jax.Array:
  """The sum of `off_diagonal_gram` over all kernels of a network; float32 scalar.

  Kernels are the leaves whose name starts with 'kernel'; biases, gains and class embeddings are left out, as in BigGAN.
  """
  total = jnp.zeros(())
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if path[-1].key.startswith("kernel"):
      total = total + off_diagonal_gram(leaf)
  return total


def logits_and_gradients(critic: Callable[[jax.Array], jax.Array], inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
  """A discriminator's logits, and how steeply each rises with its own input.

  Args:
    critic: [B, ...] -> float32 [B]; an example's logit depends on that example alone (no batch normalisation).
    inputs: [B, ...].

  Returns:
    (logits [B], squared Euclidean norms of d(logit) / d(input) [B]), both differentiable.
  """
  logits, pullback = jax.vjp(critic, inputs)
  (gradients,) = pullback(jnp.ones_like(logits))
  return logits, jnp.sum(jnp.square(gradients.astype(jnp.float32)), axis=tuple(range(1, inputs.ndim)))


def gradient_penalty(real: tuple[jax.Array, jax.Array], fake: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Mean (1 - D)^2 |d(logit)/dx|^2 on real inputs plus mean D^2 |d(logit)/dx|^2 on generated ones, D = sigmoid(logit).

  The regulariser of Roth et al. 2017 (eq. 21 with the gradients of the logits); its gamma / 2 is the weight. As in
  their code, the factors (1 - D)^2 and D^2 are differentiated too.

  Args:
    real: logits and squared gradient norms on real inputs, see `logits_and_gradients`.
    fake: the same on generated inputs.

  Returns:
    float32 scalar.
  """
  on_real = jnp.square(jax.nn.sigmoid(-real[0])) * real[1]
  on_fake = jnp.square(jax.nn.sigmoid(fake[0])) * fake[1]
  return jnp.mean(on_real) + jnp.mean(on_fake)
