"""Peak signal-to-noise ratio, in dB.

Two clips' figures exist because their averages differ a great deal. `clip_psnr` is the mean of the frames' PSNR (the
protocol of SAVP and of most prediction papers): one frame predicted exactly lifts it by many dB, so identical frames
count `MAX_PSNR`, and that value must be stated with the score. `pooled_psnr` is the PSNR of the whole clip's squared
error, and is hardly touched by such frames.
"""

import jax
import jax.numpy as jnp

from vidgen_jax.scores.metrics.inputs import as_unit_pair

MAX_PSNR = 80.0
"""dB given to identical frames (their PSNR is infinite) and the most any frame can score.

It is the root-mean-square error of a fortieth of one uint8 step, that is, a squared error of 1e-8 on [0, 1].
"""


def frame_psnr(prediction: jax.typing.ArrayLike, truth: jax.typing.ArrayLike, *, data_range: float) -> jax.Array:
  """PSNR of every frame: 10 log10(data_range^2 / mean squared error over H, W, C), at most `MAX_PSNR`.

  Args:
    prediction: uint8 or float [B, T, H, W, C] in [0, data_range].
    truth: the same shape and dtype.
    data_range: 255 for uint8.

  Returns:
    float32[B, T], dB.

  Raises:
    TypeError, ValueError: see `vidgen_jax.scores.metrics.inputs.as_unit_pair`.
  """
  return _decibels(_frame_error(*as_unit_pair(prediction, truth, data_range)))


def clip_psnr(prediction: jax.typing.ArrayLike, truth: jax.typing.ArrayLike, *, data_range: float) -> jax.Array:
  """PSNR of every clip as the mean of its frames' PSNR (protocol `frame_mean`, SAVP).

  Args:
    prediction: uint8 or float [B, T, H, W, C] in [0, data_range].
    truth: the same shape and dtype.
    data_range: 255 for uint8.

  Returns:
    float32[B], dB.

  Raises:
    TypeError, ValueError: see `vidgen_jax.scores.metrics.inputs.as_unit_pair`.
  """
  return frame_psnr(prediction, truth, data_range=data_range).mean(axis=1)


def pooled_psnr(prediction: jax.typing.ArrayLike, truth: jax.typing.ArrayLike, *, data_range: float) -> jax.Array:
  """PSNR of every clip's mean squared error over T, H, W, C (protocol `clip_mse`), at most `MAX_PSNR`.

  Args:
    prediction: uint8 or float [B, T, H, W, C] in [0, data_range].
    truth: the same shape and dtype.
    data_range: 255 for uint8.

  Returns:
    float32[B], dB.

  Raises:
    TypeError, ValueError: see `vidgen_jax.scores.metrics.inputs.as_unit_pair`.
  """
  return _decibels(_frame_error(*as_unit_pair(prediction, truth, data_range)).mean(axis=1))


@jax.jit
def _frame_error(prediction: jax.Array, truth: jax.Array) -> jax.Array:
  """Mean squared error over H, W, C of videos in [0, 1]: [B, T]."""
  return jnp.square(prediction - truth).mean(axis=(2, 3, 4))


def _decibels(error: jax.Array) -> jax.Array:
  return -10.0 * jnp.log10(jnp.maximum(error, 10.0 ** (-MAX_PSNR / 10.0)))
