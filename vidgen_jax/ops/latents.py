"""Latent vectors of generators."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def draw_latent(key: jax.Array, shape: Sequence[int], *, truncation: float | None = None) -> jax.Array:
  """Draws from the standard normal distribution, optionally truncated at +-truncation (BigGAN, section 3.1).

  Args:
    key: key of the draw.
    shape: shape of the result, usually [B, D].
    truncation: bound in standard deviations; 0 gives zeros, None does not truncate.

  Returns:
    float32 array of that shape.

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
