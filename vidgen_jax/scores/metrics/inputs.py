"""What the pixel metrics accept: checked, then brought onto [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np


def as_unit_pair(
  prediction: jax.typing.ArrayLike, truth: jax.typing.ArrayLike, data_range: float
) -> tuple[jax.Array, jax.Array]:
  """Checks two videos that are to be compared, and scales them to [0, 1].

  Values are checked where they are known; inside a `jax.jit` only types and shapes are.

  Args:
    prediction: uint8 or float [B, T, H, W, C], values in [0, data_range].
    truth: the same shape and dtype.
    data_range: white minus black: 255 for uint8, 1.0 for floats in [0, 1].

  Returns:
    Two float32[B, T, H, W, C] in [0, 1].

  Raises:
    TypeError: if the dtypes differ, or are neither uint8 nor floating.
    ValueError: if the shapes differ or are not [B, T, H, W, C], if a dimension is empty, or values leave the range.
  """
  for name, video in (("prediction", prediction), ("truth", truth)):
    if not hasattr(video, "dtype") or not (video.dtype == np.uint8 or jnp.issubdtype(video.dtype, jnp.floating)):
      raise TypeError(f"{name} must be a uint8 or float array, got {getattr(video, 'dtype', type(video))}")
  if prediction.dtype != truth.dtype:
    raise TypeError(f"prediction and truth must have one dtype, got {prediction.dtype} and {truth.dtype}")
  if prediction.shape != truth.shape or truth.ndim != 5 or 0 in truth.shape:
    raise ValueError(f"prediction and truth must both be [B, T, H, W, C], got {prediction.shape} and {truth.shape}")
  if truth.dtype == np.uint8:
    if data_range != 255:
      raise ValueError(f"uint8 video has data_range=255, got {data_range=}")
  else:
    if not data_range > 0:
      raise ValueError(f"data_range must be positive, got {data_range=}")
    _check_values("prediction", prediction, data_range)
    _check_values("truth", truth, data_range)
  scale = 1.0 / data_range
  return jnp.asarray(prediction).astype(jnp.float32) * scale, jnp.asarray(truth).astype(jnp.float32) * scale


def _check_values(name: str, video: jax.typing.ArrayLike, data_range: float) -> None:
  if isinstance(video, jax.core.Tracer):
    return
  low, high = float(video.min()), float(video.max())
  # Written so that NaN fails too. SSIM depends on where black lies, so [-1, 1] with data_range=2 is no substitute.
  if not (low >= 0.0 and high <= data_range * (1 + 1e-6)):
    raise ValueError(
      f"{name} must lie in [0, {data_range:g}], got [{low:g}, {high:g}]; bring model output to uint8 with to_uint8"
    )
