"""Temporal shift module (Lin et al. 2019; MVT-GAN, section 4.1)."""

import jax
import jax.numpy as jnp


def temporal_shift(video: jax.Array) -> jax.Array:
  """Shifts the first third of the channels one frame forward and the second third one frame backward.

  With c = C // 3, out[t] has channels 0..c-1 of frame t - 1, channels c..2c-1 of frame t + 1 and the other channels of
  frame t, where video is [B, T, H, W, C]. Frames beyond the ends are zero.
  """
  moved = video.shape[-1] // 3
  forward, backward, still = jnp.split(video, [moved, 2 * moved], axis=-1)
  rest = ((0, 0),) * 3
  forward = jnp.pad(forward, ((0, 0), (1, 0), *rest))[:, :-1]
  backward = jnp.pad(backward, ((0, 0), (0, 1), *rest))[:, 1:]
  return jnp.concatenate([forward, backward, still], axis=-1)
