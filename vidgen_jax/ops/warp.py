"""Kernel-based warping of feature maps (TrIVD-GAN-FP, appendix B)."""

import functools

import jax
import jax.numpy as jnp


def combine_kernels(kernels: jax.Array, selection: jax.Array) -> jax.Array:
  """Per-position kernels W [B, H, W, k*k] as mixtures of basis kernels (TrIVD-GAN-FP, eq. 12).

  W[b, i, j, q] = sum over l of S[b, i, j, l] w[b, q, l], with the basis w [B, k*k, N] and the selection S [B, H, W, N].
  """
  return jnp.einsum("bhwn,bqn->bhwq", selection, kernels)


# Recomputed in the backward pass, which then stores only h and W; a recurrence would otherwise store the k*k shifted
# images of every step.
@functools.partial(jax.checkpoint, prevent_cse=False)
def warp(features: jax.Array, weights: jax.Array) -> jax.Array:
  """Weighted sum over the k x k neighbourhood of each position, equal for all channels (TrIVD-GAN-FP, eq. 11).

  out[b, i, j, c] = sum over (m, n) of W[b, i, j, m k + n] h[b, i + m - (k-1)/2, j + n - (k-1)/2, c], with h zero
  outside. Features h are [B, H, W, C], weights W [B, H, W, k*k]; ValueError unless k is an odd number. The result has
  h's shape and dtype.
  """
  taps = weights.shape[-1]
  size = round(taps**0.5)
  if size * size != taps or size % 2 == 0:
    raise ValueError(f"warp needs k*k weights per position with an odd k, got {taps}")
  radius = size // 2
  _, height, width, _ = features.shape
  padded = jnp.pad(features, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
  weights = weights.astype(features.dtype)
  # k*k shifted multiply-adds, without an array [B, H, W, k*k, C].
  total = jnp.zeros_like(features)
  for m in range(size):
    for n in range(size):
      window = padded[:, m : m + height, n : n + width]
      total = total + weights[..., m * size + n, None] * window
  return total
