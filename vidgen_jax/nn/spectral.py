"""Spectral normalisation, and linear layers with it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.nn import convolution
from vidgen_jax.ops.convolution2d import convolve_images

SPECTRAL_STATS = "spectral_stats"
"""The variable collection of the left singular vectors of normalised kernels."""


def _unit(vector: jax.Array) -> jax.Array:
  return vector * lax.rsqrt(jnp.sum(jnp.square(vector)) + 1e-12)


def power_iteration(kernel: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
  """One power iteration towards the first singular value (Miyato et al. 2018, algorithm 1).

  The float32 kernel [..., out] is a matrix with its leading axes merged; `u` [out] is the previous singular vector.

  Returns:
    (sigma, u): scalar estimate, differentiable in `kernel` only, and new unit vector [out].
  """
  matrix = kernel.reshape(-1, kernel.shape[-1])
  # Sums of products, not matrix products, which accelerators round to lower precision by default and for each of which
  # XLA's CPU compiler generates much code.
  v = _unit(jnp.sum(lax.stop_gradient(matrix) * u[None], axis=1, keepdims=True))
  projected = jnp.sum(matrix * v, axis=0)
  u = _unit(lax.stop_gradient(projected))
  return jnp.sum(projected * u), u


def kernel_param(module: nn.Module, name: str, shape: Sequence[int], *, spectral_norm: bool, train: bool) -> jax.Array:
  """Declares an orthogonally initialised kernel in `module` and divides it by its largest singular value.

  Must be called once per forward pass, outside of any recurrence: TrIVD-GAN-FP does one power iteration per training
  step, not per unrolled frame. With `train` the new vector `{name}_u` is stored in the collection 'spectral_stats';
  otherwise the stored vector is used and does not change. `shape` is [..., in, out]; without `spectral_norm` the raw
  kernel is returned and no variable declared.
  """
  kernel = module.param(name, nn.initializers.orthogonal(), tuple(shape), jnp.float32)
  if not spectral_norm:
    return kernel
  u = module.variable(
    SPECTRAL_STATS, f"{name}_u", lambda: _unit(jax.random.normal(module.make_rng("params"), (shape[-1],), jnp.float32))
  )
  sigma, new_u = power_iteration(kernel, u.value)
  if train and module.is_mutable_collection(SPECTRAL_STATS) and not module.is_initializing():
    u.value = new_u
  return kernel / sigma


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """SAME convolution, channels last, with x's rank and dtype.

  x is [N, H, W, C], or [B, T, H, W, C], to whose frames a 2-D kernel is applied; the kernel [kh, kw, in, out] or [kt,
  kh, kw, in, out] is cast to x's dtype.
  """
  if kernel.ndim == 5:
    return convolution.convolve(x, kernel, precision=None)
  pads = tuple(lax.padtype_to_pads(x.shape[-3:-1], kernel.shape[:2], (1, 1), "SAME"))
  frames = x.reshape(-1, *x.shape[-3:])
  y = convolve_images(frames, kernel.astype(x.dtype), strides=(1, 1), pads=pads, precision=None)
  return y.reshape(*x.shape[:-3], *y.shape[-3:])


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """Adds a bias [C] to the last axis of [..., C], in x's dtype."""
  return x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


class Conv(nn.Module):
  """SAME convolution with a kernel of size (kh, kw), applied to each frame of [B, T, H, W, C], or (kt, kh, kw)."""

  features: int
  kernel_size: tuple[int, ...] = (3, 3)
  use_bias: bool = True
  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps [..., H, W, C] to [..., H, W, features]."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = kernel_param(self, "kernel", shape, spectral_norm=self.spectral_norm, train=train)
    y = convolve(x.astype(self.dtype), kernel)
    if self.use_bias:
      y = add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32))
    return y


class Dense(nn.Module):
  """Linear map of the last axis."""

  features: int
  use_bias: bool = True
  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps [..., C] to [..., features]."""
    kernel = kernel_param(self, "kernel", (x.shape[-1], self.features), spectral_norm=self.spectral_norm, train=train)
    y = x.astype(self.dtype) @ kernel.astype(self.dtype)
    if self.use_bias:
      y = add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32))
    return y


class Embed(nn.Module):
  """A learned vector per class."""

  num_classes: int
  features: int
  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, label: jax.Array, *, train: bool) -> jax.Array:
    """Maps int [...] in [0, num_classes) to [..., features]."""
    shape = (self.num_classes, self.features)
    table = kernel_param(self, "embedding", shape, spectral_norm=self.spectral_norm, train=train)
    return jnp.take(table.astype(self.dtype), label, axis=0)
