"""E_T and G_T of SR-cGAN (III.C.1): two-layer GRUs between the latents of frames and the latent of a clip."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.normalised_conv import activation
from vidgen_jax.ops.gaussian import Gaussian

NUM_LAYERS = 2

FIRST_LOG_VARIANCE = -4.0
"""Of z_T before training: a spread of 1 would drown what E_T tells, and G_T would learn to ignore it."""


class TemporalEncoder(nn.Module):
  """E_T: reads the anchors in the order of their times, and tells a distribution of z_T.

  Each step sees the latent of a frame and its time, one of N. Padding leaves the state as it is, so that any number of
  anchors is one program.

  Attributes:
    num_frames: N, length of the clips.
    latent_features: Z, length of z_T; the layer before it has twice as many.
    hidden_features: units of each GRU layer.
    dtype: of the computation; the result is float32.
  """

  num_frames: int
  latent_features: int = 256
  hidden_features: int = 256
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latents: jax.Array, times: jax.Array, known: jax.Array) -> Gaussian:
    """q(z_T | A, T), [B, Z].

    Args:
      latents: z_I of the anchors, [B, M, D].
      times: int [B, M], 0-based.
      known: bool [B, M]; False is padding.
    """
    place = jax.nn.one_hot(times, self.num_frames, dtype=self.dtype)
    inputs = jnp.concatenate([latents.astype(self.dtype), place], axis=-1)
    state = tuple(jnp.zeros((latents.shape[0], self.hidden_features), self.dtype) for _ in range(NUM_LAYERS))
    read = nn.scan(_Read, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
    state, _ = read(self.hidden_features, self.dtype, name="read")(state, (inputs, known))
    x = activation(nn.Dense(2 * self.latent_features, dtype=self.dtype, name="hidden")(state[-1]))
    biases = {"mean": 0.0, "log_variance": FIRST_LOG_VARIANCE}
    mean, log_variance = (
      nn.Dense(self.latent_features, bias_init=nn.initializers.constant(bias), dtype=self.dtype, name=name)(x).astype(
        jnp.float32
      )
      for name, bias in biases.items()
    )
    return Gaussian(mean=mean, log_variance=log_variance)


class TemporalGenerator(nn.Module):
  """G_T: unrolls z_T into the latents of all frames and, at each step, a guess at which one it is.

  Attributes:
    num_frames: N, length of the clips.
    image_features: D, length of z_I.
    hidden_features: units of each GRU layer.
    dtype: of the computation; the results are float32.
  """

  num_frames: int
  image_features: int = 128
  hidden_features: int = 256
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(z_I of the frames [B, N, D], logits of the N time steps at every step [B, N, N]) of z_T [B, Z]."""
    z = latent.astype(self.dtype)
    # Every step sees z_T; the first states are maps of it.
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


def _step(cells: tuple[nn.Module, ...], state: tuple[jax.Array, ...], x: jax.Array) -> tuple[jax.Array, ...]:
  """One step of stacked cells, each of which reads the new state of the one below."""
  new = []
  for cell, old in zip(cells, state, strict=True):
    x, _ = cell(old, x)
    new.append(x)
  return tuple(new)


class _Read(nn.Module):
  """(states, (input, whether it counts)) to states."""

  hidden_features: int
  dtype: Any

  @nn.compact
  def __call__(
    self, state: tuple[jax.Array, ...], inputs: tuple[jax.Array, jax.Array]
  ) -> tuple[tuple[jax.Array, ...], None]:
    x, known = inputs
    cells = tuple(nn.GRUCell(self.hidden_features, dtype=self.dtype, name=f"gru_{i}") for i in range(NUM_LAYERS))
    new = _step(cells, state, x)
    return tuple(jnp.where(known[:, None], n, o) for n, o in zip(new, state, strict=True)), None


class _Write(nn.Module):
  """(states, z_T) to (states, the last one)."""

  hidden_features: int
  dtype: Any

  @nn.compact
  def __call__(self, state: tuple[jax.Array, ...], z: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    cells = tuple(nn.GRUCell(self.hidden_features, dtype=self.dtype, name=f"gru_{i}") for i in range(NUM_LAYERS))
    state = _step(cells, state, z)
    return state, state[-1]
