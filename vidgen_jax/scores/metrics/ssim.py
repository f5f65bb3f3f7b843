"""Structural similarity (Wang et al., "Image quality assessment", IEEE TIP 2004).

The values equal scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`:
11x11 Gaussian window, population moments, mean over channels and over the pixels whose window is inside the frame.
"""

import functools
import operator
from collections.abc import Iterable

import jax
import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics.psnr import as_unit_pair

WINDOW = 11
"""Side of the Gaussian window in pixels; smaller frames have no SSIM."""

_C1 = 0.01**2
_C2 = 0.03**2


_GAUSSIAN = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / 1.5) ** 2)
_WEIGHTS: list[float] = (_GAUSSIAN / _GAUSSIAN.sum()).tolist()


def frame_ssim(prediction: np.ndarray | jax.Array, truth: np.ndarray | jax.Array) -> jax.Array:
  """SSIM of each frame of uint8[B, T, H, W, C] of at least `WINDOW` pixels a side, the mean over pixels and channels.

  Returns:
    float32[B, T] in [-1, 1]; 1 for identical frames. Other types and shapes raise as in `as_unit_pair`.
  """
  return _frame_ssim(*as_unit_pair(prediction, truth))


@jax.jit
def _frame_ssim(prediction: jax.Array, truth: jax.Array) -> jax.Array:
  # Rows first, then columns, by the law of total variance: the variance in a window is the mean of its rows' variances
  # plus the variance of its rows' means. E[x^2] - E[x]^2 in float32 would lose the digits that C2 needs.
  row_x, row_y, *row_moments = _moments(prediction, truth, axis=3)
  mean_x, mean_y, *moments_of_means = _moments(row_x, row_y, axis=2)
  var_x, var_y, covariance = (
    _smooth(within, axis=2) + between for within, between in zip(row_moments, moments_of_means, strict=True)
  )
  similarity = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
  similarity = similarity / ((mean_x * mean_x + mean_y * mean_y + _C1) * (var_x + var_y + _C2))
  return similarity.mean(axis=(2, 3, 4))


def _moments(x: jax.Array, y: jax.Array, *, axis: int) -> tuple[jax.Array, ...]:
  """Gaussian means, variances and covariance of x and y in the windows along one axis."""
  mean_x, mean_y = _smooth(x, axis=axis), _smooth(y, axis=axis)
  offsets = [(dx - mean_x, dy - mean_y) for dx, dy in zip(_shifts(x, axis), _shifts(y, axis), strict=True)]
  var_x = _sum(weight * dx * dx for weight, (dx, _) in zip(_WEIGHTS, offsets, strict=True))
  var_y = _sum(weight * dy * dy for weight, (_, dy) in zip(_WEIGHTS, offsets, strict=True))
  covariance = _sum(weight * dx * dy for weight, (dx, dy) in zip(_WEIGHTS, offsets, strict=True))
  return mean_x, mean_y, var_x, var_y, covariance


def _smooth(video: jax.Array, *, axis: int) -> jax.Array:
  # Shifted sums instead of a depthwise convolution: exact float32 on every platform, and faster.
  return _sum(weight * shift for weight, shift in zip(_WEIGHTS, _shifts(video, axis), strict=True))


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
  return functools.reduce(operator.add, terms)


def _shifts(video: jax.Array, axis: int) -> list[jax.Array]:
  length = video.shape[axis] - WINDOW + 1
  return [jax.lax.slice_in_dim(video, start, start + length, axis=axis) for start in range(WINDOW)]


METRICS = (
  Metric(
    name="ssim",
    description="similarity of brightness, contrast and structure in windows of 11x11 pixels of the generated frames; "
    "mean of the frames' SSIM, 1 for identical frames",
    source="Wang et al., Image quality assessment, IEEE TIP 2004; protocol of SAVP (Lee et al., arXiv:1804.01523)",
    protocol="frame_mean",
    function=frame_ssim,
    higher_is_better=True,
    kind=Kind.FRAME,
    needs=(Need.TRUTH,),
    min_side=WINDOW,
  ),
)
