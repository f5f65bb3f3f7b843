"""The kernel-based trajectory GRU."""

from collections.abc import Callable

import jax
from flax import linen as nn

from vidgen_jax.nn.recurrent.unit import Weights, fuse, register, split
from vidgen_jax.nn.recurrent.warping import WarpingUnit
from vidgen_jax.nn.spectral import convolve


@register("k_traj_gru")
class KTrajGRU(WarpingUnit):
  """K-TrajGRU: a ConvGRU with gates on the warped state; the output mixes in the past state (TrIVD-GAN-FP, F.2)."""

  activation: Callable[[jax.Array], jax.Array] = nn.tanh

  def weights(self, input_features: int, *, train: bool) -> Weights:
    motion = self.motion_gates(input_features)
    gates = self.gates(input_features, {**dict.fromkeys("ruc", self.features), **motion}, train=train)
    return fuse(gates, state=tuple(motion), ru="ru") | self.motion_layers(input_features, train=train)

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
    ru, c, motion = split(projected, 2 * self.features, self.features)
    warped, kernels = self.warp(weights, state, motion + convolve(state, weights["state"]))  # eqs. 16, 17
    r, u = split(nn.sigmoid(ru + convolve(warped, weights["ru"])), self.features)  # eqs. 18, 21
    c = self.activation(c + convolve(r * warped, weights["c"]))  # eqs. 19, 20
    return u * state + (1 - u) * c, kernels  # eq. 22
