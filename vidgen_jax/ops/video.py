"""Value ranges of video: uint8 outside the models, float in [-1, 1] inside."""

import jax
import jax.numpy as jnp
import numpy as np


def to_model_range(video: jax.typing.ArrayLike, *, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
  """Converts uint8 video to the models' range; also under `jax.jit`.

  Args:
    video: uint8[...], values 0..255.
    dtype: floating-point type of the result.

  Returns:
    dtype[...], values in [-1, 1]: 0 -> -1, 255 -> 1.

  Raises:
    TypeError: if `video` is not uint8 (it may have been converted already) or `dtype` is not floating.
  """
  found = _dtype_of(video)
  if found != np.uint8:
    raise TypeError(f"to_model_range needs uint8 video, got {found}; it may have been converted already")
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(f"to_model_range needs a floating dtype, got {jnp.dtype(dtype)}")
  return (jnp.asarray(video).astype(jnp.float32) / 127.5 - 1.0).astype(dtype)


def to_uint8(video: jax.typing.ArrayLike) -> jax.Array:
  """Converts video from the models' range to uint8, rounded and clipped; NaN becomes 0. Also under `jax.jit`.

  `to_uint8(to_model_range(x))` equals `x` exactly in float32.

  Args:
    video: float[...], nominally in [-1, 1].

  Returns:
    uint8[...], values 0..255.

  Raises:
    TypeError: if `video` is not floating.
  """
  found = _dtype_of(video)
  if not jnp.issubdtype(found, jnp.floating):
    raise TypeError(f"to_uint8 needs floating video in [-1, 1], got {found}")
  scaled = jnp.round((jnp.asarray(video).astype(jnp.float32) + 1.0) * 127.5)
  return jnp.clip(jnp.nan_to_num(scaled, nan=0.0), 0.0, 255.0).astype(jnp.uint8)


def _dtype_of(array: jax.typing.ArrayLike) -> np.dtype:
  return np.dtype(getattr(array, "dtype", None) or np.asarray(array).dtype)
