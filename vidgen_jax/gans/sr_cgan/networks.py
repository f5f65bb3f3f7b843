"""The networks of SR-cGAN: a VAE-GAN of frames (III.B.1) and a VAE-GAN of clips (III.C).

The paper's layer tables are not published; the layers follow the same group's other networks of this size.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.gans.sr_cgan.losses import Gaussian
from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.nn.normalised_conv import NormalisedConv, activation
from vidgen_jax.nn.transposed_convolution import ConvTranspose3D
from vidgen_jax.types import Video

HALVING: dict[str, Any] = {"kernel_size": (4, 4), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
"""Options of a convolution that halves height and width."""


def gaussian(x: jax.Array, features: int, *, dtype: Any, log_variance: float = 0.0) -> Gaussian:
  """A normal distribution from linear maps of features; `log_variance` is the initial bias. Call it in a module."""
  biases = {"mean": 0.0, "log_variance": log_variance}
  heads = {
    name: nn.Dense(features, bias_init=nn.initializers.constant(bias), dtype=dtype, name=name)(x).astype(jnp.float32)
    for name, bias in biases.items()
  }
  return Gaussian(**heads)


class ImageEncoder(nn.Module):
  """E_I: 4x4 convolutions with stride 2, then linear maps to mean and log-variance.

  Attributes:
    widths: channels of the convolutions.
    latent_features: D, length of z_I.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
  latent_features: int = 32
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array, *, train: bool) -> Gaussian:
    """Maps frames [B, N, H, W, C] in [-1, 1], independently, to q(z_I | x), [B, N, D]."""
    x = frames.astype(self.dtype)
    for i, width in enumerate(self.widths):
      layer = NormalisedConv(width, **HALVING, bn_momentum=self.bn_momentum, dtype=self.dtype, name=f"down_{i}")
      x = layer(x, train=train)
    x = x.reshape(*x.shape[:2], -1)
    return gaussian(x, self.latent_features, dtype=self.dtype)


class ImageGenerator(nn.Module):
  """G_I: the encoder's layers in reverse order, with tanh at the end.

  Attributes:
    size: (height, width) of the frames.
    widths: widths of the encoder, used in reverse order.
  """

  size: tuple[int, ...]
  widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
  channels: int = 3
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latent: jax.Array, *, train: bool) -> jax.Array:
    """Maps latents [B, N, D], independently, to frames [B, N, H, W, channels] in [-1, 1]."""
    common: dict[str, Any] = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
    height, width = (side // 2 ** len(self.widths) for side in self.size)
    x = nn.Dense(height * width * self.widths[-1], dtype=self.dtype, name="input")(latent.astype(self.dtype))
    x = x.reshape(*latent.shape[:2], height, width, self.widths[-1])
    x = NormalisedConv(self.widths[-1], (1, 1), **common, name="first")(x, train=train)
    doubling: dict[str, Any] = {"kernel_size": (1, 4, 4), "strides": (1, 2, 2)}
    for i, features in enumerate(reversed(self.widths[:-1])):
      x = NormalisedConv(features, **doubling, transposed=True, **common, name=f"up_{i}")(x, train=train)
    x = ConvTranspose3D(self.channels, **doubling, use_bias=True, dtype=self.dtype, name="output")(x)
    return jnp.tanh(x.astype(jnp.float32))


class ImageDiscriminator(nn.Module):
  """D_I: 4x4 convolutions with stride 2 and two linear maps, without normalisation.

  Attributes:
    widths: channels of the convolutions.
    hidden_features: units of the first linear map.
  """

  widths: tuple[int, ...] = (16, 32, 64, 128, 256)
  hidden_features: int = 512
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps frames [B, N, H, W, C] in [-1, 1], independently, to logits float32 [B, N]."""
    x = frames.astype(self.dtype)
    for i, width in enumerate(self.widths):
      x = activation(Conv3D(width, **HALVING, use_bias=True, dtype=self.dtype, precision=None, name=f"down_{i}")(x))
    x = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    x = activation(nn.Dense(self.hidden_features, dtype=self.dtype, name="hidden")(x))
    return nn.Dense(1, name="output")(x.astype(jnp.float32))[..., 0]


NUM_LAYERS = 2

INITIAL_LOG_VARIANCE = -4.0
"""Log-variance of z_T before training: with variance 1 the noise would hide mu_T, and G_T would learn to ignore z_T."""


class TemporalEncoder(nn.Module):
  """E_T: reads the anchors in the order of their times and predicts the distribution of z_T.

  Each step reads the latent of a frame and its time, encoded as one of N. Padding leaves the state unchanged, so that
  one compiled program serves any number of anchors.

  Attributes:
    num_frames: N, length of the clips.
    latent_features: Z, length of z_T; the layer before it has 2 Z units.
    hidden_features: units of each GRU layer.
  """

  num_frames: int
  latent_features: int = 256
  hidden_features: int = 256
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latents: jax.Array, times: jax.Array, known: jax.Array) -> Gaussian:
    """Returns q(z_T | A, T), [B, Z], for z_I of the anchors, [B, M, D], at times int [B, M] from 0.

    False in `known`, bool [B, M], marks padding.
    """
    time = jax.nn.one_hot(times, self.num_frames, dtype=self.dtype)
    inputs = jnp.concatenate([latents.astype(self.dtype), time], axis=-1)
    state = tuple(jnp.zeros((latents.shape[0], self.hidden_features), self.dtype) for _ in range(NUM_LAYERS))
    read = nn.scan(_StackedGru, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
    state, _ = read(self.hidden_features, self.dtype, name="read")(state, (inputs, known))
    x = activation(nn.Dense(2 * self.latent_features, dtype=self.dtype, name="hidden")(state[-1]))
    return gaussian(x, self.latent_features, dtype=self.dtype, log_variance=INITIAL_LOG_VARIANCE)


class TemporalGenerator(nn.Module):
  """G_T: unrolls z_T into the latents of all frames and, at each step, predicts the step's time.

  Attributes:
    num_frames: N, length of the clips.
    image_features: D, length of z_I.
    hidden_features: units of each GRU layer.
  """

  num_frames: int
  image_features: int = 32
  hidden_features: int = 256
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps z_T [B, Z] to (z_I of the frames [B, N, D], logits of the N times at every step [B, N, N])."""
    z = latent.astype(self.dtype)
    # Every step reads z_T, and the initial states are linear maps of it.
    first = nn.Dense(NUM_LAYERS * self.hidden_features, dtype=self.dtype, name="first_state")(z)
    state = tuple(jnp.tanh(part) for part in jnp.split(first, NUM_LAYERS, axis=-1))
    write = nn.scan(
      _StackedGru,
      variable_broadcast="params",
      split_rngs={"params": False},
      in_axes=nn.broadcast,
      out_axes=1,
      length=self.num_frames,
    )
    _, states = write(self.hidden_features, self.dtype, name="write")(state, (z, None))
    latents = nn.Dense(self.image_features, dtype=self.dtype, name="output")(states)
    times = nn.Dense(self.num_frames, dtype=self.dtype, name="time")(states)
    return latents.astype(jnp.float32), times.astype(jnp.float32)


class _StackedGru(nn.Module):
  """One time step of stacked GRU cells, each of which reads the new state of the cell below.

  Maps (states, (input, whether it is known)) to (states, None), and (states, (input, None)) to (states, last state).
  """

  hidden_features: int
  dtype: Any

  @nn.compact
  def __call__(
    self, state: tuple[jax.Array, ...], inputs: tuple[jax.Array, jax.Array | None]
  ) -> tuple[tuple[jax.Array, ...], jax.Array | None]:
    x, known = inputs
    new = []
    for layer, old in enumerate(state):
      x, _ = nn.GRUCell(self.hidden_features, dtype=self.dtype, name=f"gru_{layer}")(old, x)
      new.append(x)
    if known is None:
      return tuple(new), x
    return tuple(jnp.where(known[:, None], n, o) for n, o in zip(new, state, strict=True)), None


class TemporalDiscriminator(nn.Module):
  """D_T: 4x4x4 convolutions with stride 2 over a clip, the anchors it was generated from, and the anchors' mask.

  Time is halved until one frame is left.

  Attributes:
    widths: channels of the convolutions.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: Video, anchors: Video | None = None) -> jax.Array:
    """Maps clips [B, N, H, W, C] in [-1, 1] to logits float32 [B].

    `anchors` are the result of `place_anchors`, [B, N, H, W, C + 1]; None for the base model.
    """
    x = video if anchors is None else jnp.concatenate([video, anchors], axis=-1)
    x = x.astype(self.dtype)
    for i, width in enumerate(self.widths):
      axes = 3 if x.shape[1] > 1 else 2
      window: dict[str, Any] = {"kernel_size": (4,) * axes, "strides": (2,) * axes, "padding": ((1, 1),) * axes}
      x = activation(Conv3D(width, **window, use_bias=True, dtype=self.dtype, precision=None, name=f"down_{i}")(x))
    features = x.reshape(x.shape[0], -1).astype(jnp.float32)
    return nn.Dense(1, name="output")(features)[:, 0]


def place_anchors(frames: Video, times: jax.Array, known: jax.Array, *, num_frames: int) -> Video:
  """Places anchors [B, M, H, W, C] at their times, int [B, M] from 0, in a clip of `num_frames` frames, else zeros.

  The known times of a clip are distinct; False in `known`, bool [B, M], marks padding.

  Returns:
    [B, N, H, W, C + 1], where the last channel is 1 at the anchors.
  """
  position = jax.nn.one_hot(times, num_frames, dtype=frames.dtype) * known[..., None]
  placed = jnp.einsum("bmn,bmhwc->bnhwc", position, frames, precision=jax.lax.Precision.HIGHEST)
  mask = jnp.sum(position, axis=1)[:, :, None, None, None]
  return jnp.concatenate([placed, jnp.broadcast_to(mask, (*placed.shape[:-1], 1))], axis=-1)
