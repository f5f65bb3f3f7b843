"""Kernel-based warping of feature maps (TrIVD-GAN-FP, appendix B)."""

import functools

import jax
import jax.numpy as jnp


def combine_kernels(kernels: jax.Array, selection: jax.Array) -> jax.Array:
  """Per-position kernels as mixtures of a clip's basis (TrIVD-GAN-FP, eq. 12).

  W[b, i, j, q] = sum over l of S[b, i, j, l] w[b, q, l].

  Args:
    kernels: w, [B, k*k, N].
    selection: S, [B, H, W, N].

  Returns:
    W, [B, H, W, k*k].
  """
  return jnp.einsum("bhwn,bqn->bhwq", selection, kernels)


@functools.partial(jax.checkpoint, prevent_cse=False)
def warp(features: jax.Array, weights: jax.Array) -> jax.Array:
  """Weighs the k x k neighbourhood of every position, the same way for all channels (TrIVD-GAN-FP, eq. 11).

  out[b, i, j, c] = sum over (m, n) of W[b, i, j, m k + n] h[b, i + m - (k-1)/2, j + n - (k-1)/2, c], h zero outside.
  Written as k*k shifted multiply-adds, so no [B, H, W, k*k, C] array exists. For the backward pass only h and W are
  kept, of a recurrence too: its loop would keep the k*k shifted images of every step otherwise.

  Args:
    features: h, [B, H, W, C].
    weights: W, [B, H, W, k*k] with odd k.

  Returns:
    [B, H, W, C] of h's dtype.

  Raises:
    ValueError: if the last axis of `weights` is no odd square.
  """
  taps = weights.shape[-1]
  size = round(taps**0.5)
  if size * size != taps or size % 2 == 0:
    raise ValueError(f"warp needs k*k weights per position with an odd k, got {taps}")
  radius = size // 2
  _, height, width, _ = features.shape
  padded = jnp.pad(features, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
  weights = weights.astype(features.dtype)
  total = jnp.zeros_like(features)
  for m in range(size):
    for n in range(size):
      window = padded[:, m : m + height, n : n + width]
      total = total + weights[..., m * size + n, None] * window
  return total
