"""Temporal shift module (Lin et al. 2019; MVT-GAN, section 4.1)."""

import jax
import jax.numpy as jnp


def temporal_shift(video: jax.Array, divisor: int) -> jax.Array:
  """Shifts one part of the channels one frame forward and an equal part one frame backward.

  With c = C // divisor, out[t] has channels 0..c-1 of frame t - 1, channels c..2c-1 of frame t + 1 and the other
  channels of frame t, where video is [B, T, H, W, C] and divisor >= 2. Frames beyond the ends are zero.
  """
  moved = video.shape[-1] // divisor
  forward, backward, still = jnp.split(video, [moved, 2 * moved], axis=-1)
  rest = ((0, 0),) * 3
  forward = jnp.pad(forward, ((0, 0), (1, 0), *rest))[:, :-1]
  backward = jnp.pad(backward, ((0, 0), (0, 1), *rest))[:, 1:]
  return jnp.concatenate([forward, backward, still], axis=-1)
