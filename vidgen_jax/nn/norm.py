"""Normalisation of video features: (conditional) batch normalisation and layer normalisation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from vidgen_jax.nn.spectral import Dense
from vidgen_jax.ops.devices import mean_over_devices

BATCH_STATS = "batch_stats"
"""The variable collection of running (or standing) means and variances."""

BATCH_NORM_SCOPE = "batch_norm"
"""Scope of batch normalisation in compiled programs."""

MOMENTS = "batch_moments"
"""Name of a batch's moments, which rematerialisation should store: recomputing them repeats their all-reduce."""


class BatchNorm(nn.Module):
  """Batch normalisation of video features, per time step (TrIVD-GAN-FP, appendix A) or over all time steps.

  Statistics are float32 means over batch and space, of the clips of all devices.

  Attributes:
    per_frame: whether statistics have the shape [T, C], for clips of one length; otherwise [C], over time as well.
    momentum: weight of the old running statistics; 0 makes `batch_stats` the moments of the current batch, from which
      standing statistics are pooled.
    affine: whether to learn a scale and an offset per channel; False if a conditional layer provides them.
  """

  per_frame: bool = True
  momentum: float = 0.9
  affine: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  @jax.named_scope(BATCH_NORM_SCOPE)
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Normalises [B, T, H, W, C]; ValueError if the stored statistics belong to clips of another length."""
    shape = (x.shape[1], x.shape[-1]) if self.per_frame else (x.shape[-1],)
    axes = (0, 2, 3) if self.per_frame else (0, 1, 2, 3)
    running_mean = self.variable(BATCH_STATS, "mean", jnp.zeros, shape, jnp.float32)
    running_var = self.variable(BATCH_STATS, "var", jnp.ones, shape, jnp.float32)
    if running_mean.value.shape != shape:
      raise ValueError(
        f"batch statistics are for [time, channel] {running_mean.value.shape}, but the input has {shape}; "
        "pool standing statistics at the length of the clips to sample"
      )
    if train:
      x32 = x.astype(jnp.float32)
      moments = mean_over_devices((jnp.mean(x32, axis=axes), jnp.mean(jnp.square(x32), axis=axes)))
      mean, square = checkpoint_name(moments, MOMENTS)
      var = jnp.maximum(square - jnp.square(mean), 0.0)
      if self.is_mutable_collection(BATCH_STATS) and not self.is_initializing():
        running_mean.value = self.momentum * running_mean.value + (1.0 - self.momentum) * mean
        running_var.value = self.momentum * running_var.value + (1.0 - self.momentum) * var
    else:
      mean, var = running_mean.value, running_var.value
    scale = lax.rsqrt(var + 1e-5)
    channels = (1,) * (len(shape) - 1) + (-1,)
    if self.affine:
      scale = scale * self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32).reshape(channels)
    offset = -mean * scale
    if self.affine:
      offset = offset + self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32).reshape(channels)
    expanded = (1, -1, 1, 1, x.shape[-1])
    return (x.astype(jnp.float32) * scale.reshape(expanded) + offset.reshape(expanded)).astype(self.dtype)


class LayerNorm(nn.Module):
  """Layer normalisation (Ba et al. 2016) over all axes except the batch, with a scale and an offset per channel."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises each example of [B, ..., C]."""
    x32 = x.astype(jnp.float32)
    axes = tuple(range(1, x.ndim))
    mean = jnp.mean(x32, axis=axes, keepdims=True)
    # Not E[x^2] - E[x]^2, which rounding can make negative: a gradient penalty differentiates the root twice.
    var = jnp.mean(jnp.square(x32 - mean), axis=axes, keepdims=True)
    channels = (1,) * (x.ndim - 1) + (-1,)
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32).reshape(channels)
    bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32).reshape(channels)
    return ((x32 - mean) * lax.rsqrt(var + 1e-5) * scale + bias).astype(self.dtype)


class ConditionalBatchNorm(nn.Module):
  """`BatchNorm` with scale 1 + W c and offset V c for a condition c (BigGAN; TrIVD-GAN-FP, E.2).

  With `use_bias` both maps have biases, as in MVT-GAN's published code.
  """

  per_frame: bool = True
  momentum: float = 0.9
  use_bias: bool = False
  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, condition: jax.Array, *, train: bool) -> jax.Array:
    """Normalises [B, T, H, W, C] with a condition [B, D], or [B, T, D] for a condition per frame."""
    features = x.shape[-1]
    if condition.ndim == 2:
      condition = condition[:, None]
    options: dict[str, Any] = {"use_bias": self.use_bias, "spectral_norm": self.spectral_norm}
    gains = {name: Dense(features, **options, name=name)(condition, train=train) for name in ("scale", "offset")}
    norm = BatchNorm(per_frame=self.per_frame, momentum=self.momentum, affine=False, dtype=jnp.float32)
    normalised = norm(x, train=train)
    expand = (slice(None), slice(None), None, None, slice(None))
    return (normalised * (1.0 + gains["scale"][expand]) + gains["offset"][expand]).astype(self.dtype)
