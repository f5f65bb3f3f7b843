"""Peak signal-to-noise ratio in dB, averaged over frames or computed from the error of the whole clip."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need

MAX_PSNR = 80.0
"""Upper limit in dB, which identical frames score: a mean squared error of 1e-8 on [0, 1]."""


def as_unit_pair(prediction: np.ndarray | jax.Array, truth: np.ndarray | jax.Array) -> tuple[jax.Array, jax.Array]:
  """Scales two videos uint8[B, T, H, W, C] of one shape to float32 in [0, 1].

  Raises:
    TypeError: if a video is not uint8.
    ValueError: if the shapes differ or are not [B, T, H, W, C], or a dimension is empty.
  """
  if prediction.dtype != np.uint8 or truth.dtype != np.uint8:
    raise TypeError(f"prediction and truth must be uint8, got {prediction.dtype} and {truth.dtype}")
  if prediction.shape != truth.shape or truth.ndim != 5 or 0 in truth.shape:
    raise ValueError(f"prediction and truth must both be [B, T, H, W, C], got {prediction.shape} and {truth.shape}")
  return jnp.asarray(prediction).astype(jnp.float32) * (1 / 255), jnp.asarray(truth).astype(jnp.float32) * (1 / 255)


def frame_psnr(prediction: np.ndarray | jax.Array, truth: np.ndarray | jax.Array) -> jax.Array:
  """PSNR of each frame, 10 log10(255^2 / mean squared error over H, W, C), at most `MAX_PSNR`: float32[B, T] in dB.

  Both videos are uint8[B, T, H, W, C]; other types and shapes raise as in `as_unit_pair`.
  """
  return _decibels(_frame_error(*as_unit_pair(prediction, truth)))


def pooled_psnr(prediction: np.ndarray | jax.Array, truth: np.ndarray | jax.Array) -> jax.Array:
  """PSNR of each clip, float32[B], from the mean squared error over T, H, W, C; otherwise as `frame_psnr`."""
  return _decibels(_frame_error(*as_unit_pair(prediction, truth)).mean(axis=1))


@jax.jit
def _frame_error(prediction: jax.Array, truth: jax.Array) -> jax.Array:
  return jnp.square(prediction - truth).mean(axis=(2, 3, 4))


def _decibels(error: jax.Array) -> jax.Array:
  return -10.0 * jnp.log10(jnp.maximum(error, 10.0 ** (-MAX_PSNR / 10.0)))


_PSNR = Metric(
  name="psnr",
  description="pixel error of the generated frames; mean of the frames' PSNR, an identical frame counting 80 dB",
  source="protocol of SAVP (Lee et al., arXiv:1804.01523)",
  protocol="frame_mean",
  function=frame_psnr,
  higher_is_better=True,
  kind=Kind.FRAME,
  needs=(Need.TRUTH,),
  unit="dB",
)

METRICS = (
  _PSNR,
  dataclasses.replace(
    _PSNR,
    name="psnr_pooled",
    reported_as="psnr",
    description="pixel error of the generated frames; PSNR of the whole clip's mean squared error, at most 80 dB. "
    "A single exact frame, which raises the mean of the frames' PSNR by many dB, hardly changes it",
    source="definition of PSNR, applied to the clip",
    protocol="clip_mse",
    function=pooled_psnr,
    kind=Kind.CLIP,
  ),
  dataclasses.replace(
    _PSNR,
    name="anchor_psnr",
    description="PSNR of the conditioning frames, for models that draw these frames too (SR-cGAN)",
    source="this project; reconstruction task of SR-cGAN, IV.C",
    protocol="conditioning frames as the model makes them",
    needs=(Need.TRUTH, Need.CONDITIONING),
    selectable=False,  # Every sample has to match the conditioning frames.
  ),
)
