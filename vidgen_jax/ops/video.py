"""Value ranges of video: uint8 outside the models, float in [-1, 1] inside."""

import jax
import jax.numpy as jnp


def to_model_range(video: jax.typing.ArrayLike, *, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
  """Converts uint8[...] to the models' range, dtype[...] in [-1, 1]: 0 -> -1, 255 -> 1. Also under `jax.jit`.

  Raises:
    TypeError: if `video` is not uint8 (it may have been converted already) or `dtype` is not floating.
  """
  video = jnp.asarray(video)
  if video.dtype != jnp.uint8:
    raise TypeError(f"to_model_range needs uint8 video, got {video.dtype}; it may have been converted already")
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(f"to_model_range needs a floating dtype, got {jnp.dtype(dtype)}")
  return (video.astype(jnp.float32) / 127.5 - 1.0).astype(dtype)


def to_uint8(video: jax.typing.ArrayLike) -> jax.Array:
  """Converts float[...], nominally in [-1, 1], to uint8, rounded and clipped; NaN becomes 0. Also under `jax.jit`.

  `to_uint8(to_model_range(x))` equals `x` exactly in float32.

  Raises:
    TypeError: if `video` is not floating.
  """
  video = jnp.asarray(video)
  if not jnp.issubdtype(video.dtype, jnp.floating):
    raise TypeError(f"to_uint8 needs floating video in [-1, 1], got {video.dtype}")
  scaled = jnp.round((video.astype(jnp.float32) + 1.0) * 127.5)
  return jnp.clip(jnp.nan_to_num(scaled, nan=0.0), 0.0, 255.0).astype(jnp.uint8)
