"""Penalties on parameters."""

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
