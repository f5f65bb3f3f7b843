"""Checks and scaling of the inputs of pixel metrics."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike


def as_unit_pair(prediction: ArrayLike, truth: ArrayLike, data_range: float) -> tuple[jax.Array, jax.Array]:
  """Checks two videos and scales them to [0, 1].

  Inside `jax.jit` the values are unknown, so only types and shapes are checked.

  Args:
    prediction: uint8 or float [B, T, H, W, C] in [0, data_range].
    truth: same shape and dtype.
    data_range: white minus black: 255 for uint8, 1.0 for floats in [0, 1].

  Returns:
    Two float32[B, T, H, W, C] in [0, 1].

  Raises:
    TypeError: if the dtypes differ, or are neither uint8 nor floating.
    ValueError: if the shapes differ or are not [B, T, H, W, C], a dimension is empty, or a value is out of range.
  """
  pair = {"prediction": prediction, "truth": truth}
  dtypes = [getattr(video, "dtype", None) for video in pair.values()]
  for (name, video), dtype in zip(pair.items(), dtypes, strict=True):
    if dtype is None or not (dtype == np.uint8 or jnp.issubdtype(dtype, jnp.floating)):
      raise TypeError(f"{name} must be a uint8 or float array, got {dtype or type(video)}")
  if dtypes[0] != dtypes[1]:
    raise TypeError(f"prediction and truth must have one dtype, got {dtypes[0]} and {dtypes[1]}")
  first, second = (jnp.asarray(video) for video in pair.values())
  if first.shape != second.shape or second.ndim != 5 or 0 in second.shape:
    raise ValueError(f"prediction and truth must both be [B, T, H, W, C], got {first.shape} and {second.shape}")
  if second.dtype == np.uint8:
    if data_range != 255:
      raise ValueError(f"uint8 video has data_range=255, got {data_range=}")
  else:
    if not data_range > 0:
      raise ValueError(f"data_range must be positive, got {data_range=}")
    for name, video in pair.items():
      _check_values(name, video, data_range)
  scale = 1.0 / data_range
  return first.astype(jnp.float32) * scale, second.astype(jnp.float32) * scale


def _check_values(name: str, video: ArrayLike, data_range: float) -> None:
  if isinstance(video, Tracer):
    return
  low, high = float(np.min(video)), float(np.max(video))
  # "not (...)" so that NaN fails too. [-1, 1] with data_range=2 is no substitute: SSIM depends on the value of black.
  if not (low >= 0.0 and high <= data_range * (1 + 1e-6)):
    raise ValueError(
      f"{name} must lie in [0, {data_range:g}], got [{low:g}, {high:g}]; convert model output with to_uint8"
    )
