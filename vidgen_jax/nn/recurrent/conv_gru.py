"""The convolutional gated recurrent unit."""

import jax
from flax import linen as nn

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
