"""The convolutional long short-term memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.nn.recurrent.unit import RecurrentUnit, Weights, fuse, split
from vidgen_jax.nn.spectral import convolve

LSTM_GATES = "ifog"
"""Input, forget and output gate, and the candidate, in the order of their channels."""


class LSTM(RecurrentUnit):
  """A unit whose state is a hidden state and a memory, side by side, each with half of the features (appendix F.3)."""

  @property
  def hidden_features(self) -> int:
    """Channels of the hidden state, and as many of the memory.

    Raises:
      UserError: if the features are an odd number.
    """
    if self.features % 2:
      raise UserError(f"an LSTM divides its {self.features} features into hidden state and memory: give an even number")
    return self.features // 2

  def update(self, gates: jax.Array, memory: jax.Array) -> jax.Array:
    """The new hidden state and memory, [B, H, W, features], from the gates before their activations.

    Args:
      gates: [B, H, W, 2 * features], in the order of `LSTM_GATES`.
      memory: [B, H, W, features / 2].
    """
    ifo, g = split(gates, 3 * self.hidden_features)
    i, f, o = split(nn.sigmoid(ifo), self.hidden_features, self.hidden_features)
    memory = f * memory + i * self.activation(g)
    return jnp.concatenate([o * self.activation(memory), memory], axis=-1)


class ConvLSTM(LSTM):
  """Convolutional LSTM (Shi et al. 2015, without peepholes; TrIVD-GAN-FP, appendix F.3) with ReLU, which it reports.

  i, f, o = sigmoid(W * [h; x] + b); g = rho(W_g * [h; x] + b_g); m' = f m + i g; h' = o rho(m').
  The output is [h'; m'], and the initial state is divided likewise.
  """

  def weights(self, input_features: int, *, train: bool) -> Weights:
    """See `RecurrentUnit.weights`."""
    gates = self.gates(input_features, dict.fromkeys(LSTM_GATES, self.hidden_features), train=train)
    return fuse(gates, state=LSTM_GATES)

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, None]:
    """See `RecurrentUnit.step`."""
    hidden, memory = split(state, self.hidden_features)
    return self.update(projected + convolve(hidden, weights["state"]), memory), None


class ConvLSTMTanh(ConvLSTM):
  """The same with tanh, as usual elsewhere (TrIVD-GAN-FP, appendix F.1: worse than ReLU)."""

  activation: Callable[[jax.Array], jax.Array] = nn.tanh
