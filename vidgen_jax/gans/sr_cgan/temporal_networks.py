"""E_T, G_T and D_T of SR-cGAN (III.C): two-layer GRUs between latents of frames and of clips, and a discriminator."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.gans.sr_cgan.losses import Gaussian
from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.nn.normalised_conv import activation
from vidgen_jax.types import Video

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
    read = nn.scan(_Read, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
    state, _ = read(self.hidden_features, self.dtype, name="read")(state, (inputs, known))
    x = activation(nn.Dense(2 * self.latent_features, dtype=self.dtype, name="hidden")(state[-1]))
    biases = {"mean": 0.0, "log_variance": INITIAL_LOG_VARIANCE}
    mean, log_variance = (
      nn.Dense(self.latent_features, bias_init=nn.initializers.constant(bias), dtype=self.dtype, name=name)(x).astype(
        jnp.float32
      )
      for name, bias in biases.items()
    )
    return Gaussian(mean=mean, log_variance=log_variance)


class TemporalGenerator(nn.Module):
  """G_T: unrolls z_T into the latents of all frames and, at each step, predicts the step's time.

  Attributes:
    num_frames: N, length of the clips.
    image_features: D, length of z_I.
    hidden_features: units of each GRU layer.
  """

  num_frames: int
  image_features: int = 128
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
      _Write,
      variable_broadcast="params",
      split_rngs={"params": False},
      in_axes=nn.broadcast,
      out_axes=1,
      length=self.num_frames,
    )
    _, states = write(self.hidden_features, self.dtype, name="write")(state, z)
    latents = nn.Dense(self.image_features, dtype=self.dtype, name="output")(states)
    times = nn.Dense(self.num_frames, dtype=self.dtype, name="time")(states)
    return latents.astype(jnp.float32), times.astype(jnp.float32)


class _StackedGru(nn.Module):
  """One time step of stacked GRU cells, each of which reads the new state of the cell below."""

  hidden_features: int
  dtype: Any

  def _step(self, state: tuple[jax.Array, ...], x: jax.Array) -> tuple[jax.Array, ...]:
    new = []
    for layer, old in enumerate(state):
      x, _ = nn.GRUCell(self.hidden_features, dtype=self.dtype, name=f"gru_{layer}")(old, x)
      new.append(x)
    return tuple(new)


class _Read(_StackedGru):
  """(states, (input, whether it is known)) to (states, None)."""

  @nn.compact
  def __call__(
    self, state: tuple[jax.Array, ...], inputs: tuple[jax.Array, jax.Array]
  ) -> tuple[tuple[jax.Array, ...], None]:
    x, known = inputs
    new = self._step(state, x)
    return tuple(jnp.where(known[:, None], n, o) for n, o in zip(new, state, strict=True)), None


class _Write(_StackedGru):
  """(states, z_T) to (states, state of the last layer)."""

  @nn.compact
  def __call__(self, state: tuple[jax.Array, ...], z: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    state = self._step(state, z)
    return state, state[-1]


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
