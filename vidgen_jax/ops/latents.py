"""Latents: the randomness that generated clips are made of."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def draw_latent(key: jax.Array, shape: Sequence[int], *, truncation: float | None = None) -> jax.Array:
  """Draws from the standard normal distribution, or from one that is cut at +-truncation (BigGAN, section 3.1).

  Args:
    key: of the draw.
    shape: of the result, usually [B, D].
    truncation: half-width of the cut, in standard deviations; 0 gives zeros, None no cut.

  Returns:
    float32 of that shape.

  Raises:
    ValueError: if `truncation` is negative.
  """
  if truncation is None:
    return jax.random.normal(key, shape, jnp.float32)
  if truncation < 0:
    raise ValueError(f"truncation must be 0 or more, got {truncation=}")
  if truncation == 0:
    return jnp.zeros(shape, jnp.float32)
  return jax.random.truncated_normal(key, -truncation, truncation, shape, jnp.float32)
