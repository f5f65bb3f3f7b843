"""Convolutional gated recurrent units and long short-term memories."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.nn.recurrent.unit import RecurrentUnit, Weights, fuse, register, split
from vidgen_jax.nn.spectral import convolve


@register("conv_gru")
class ConvGRU(RecurrentUnit):
  """Convolutional gated recurrent unit (TrIVD-GAN-FP, eqs. 1-5; ReLU candidate, appendix F.1)."""

  def weights(self, input_features: int, *, train: bool) -> Weights:
    return fuse(self.gates(input_features, dict.fromkeys("ruc", self.features), train=train), ru="ru")

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, None]:
    ru, c = split(projected, 2 * self.features)
    r, u = split(nn.sigmoid(ru + convolve(state, weights["ru"])), self.features)  # eqs. 1, 4
    c = self.activation(c + convolve(r * state, weights["c"]))  # eqs. 2, 3
    return u * state + (1 - u) * c, None  # eq. 5


LSTM_GATES = "ifog"
"""Input, forget and output gate, and the candidate, in channel order."""


class LSTM(RecurrentUnit):
  """A unit with a hidden state and a memory, each with half of the features, as state (TrIVD-GAN-FP, appendix F.3)."""

  @property
  def hidden_features(self) -> int:
    """Channels of the hidden state, equal to those of the memory; UserError for an odd number of features."""
    if self.features % 2:
      raise UserError(f"an LSTM splits its {self.features} features into hidden state and memory; use an even number")
    return self.features // 2

  def update(self, gates: jax.Array, memory: jax.Array) -> jax.Array:
    """The new hidden state and memory, [B, H, W, features], from the old memory, [B, H, W, features / 2].

    `gates`, [B, H, W, 2 * features] in the order of `LSTM_GATES`, are values before the activations.
    """
    ifo, g = split(gates, 3 * self.hidden_features)
    i, f, o = split(nn.sigmoid(ifo), self.hidden_features, self.hidden_features)
    memory = f * memory + i * self.activation(g)
    return jnp.concatenate([o * self.activation(memory), memory], axis=-1)


@register("conv_lstm")
class ConvLSTM(LSTM):
  """Convolutional LSTM (Shi et al. 2015, without peepholes) with the ReLU of TrIVD-GAN-FP, appendix F.3.

  i, f, o = sigmoid(W * [h; x] + b); g = rho(W_g * [h; x] + b_g); m' = f m + i g; h' = o rho(m').
  The output is [h'; m'], and so is the initial state.
  """

  def weights(self, input_features: int, *, train: bool) -> Weights:
    gates = self.gates(input_features, dict.fromkeys(LSTM_GATES, self.hidden_features), train=train)
    return fuse(gates, state=LSTM_GATES)

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, None]:
    hidden, memory = split(state, self.hidden_features)
    return self.update(projected + convolve(hidden, weights["state"]), memory), None


@register("conv_lstm_tanh")
class ConvLSTMTanh(ConvLSTM):
  """ConvLSTM with the usual tanh, which is worse than ReLU (TrIVD-GAN-FP, appendix F.1)."""

  activation: Callable[[jax.Array], jax.Array] = nn.tanh
