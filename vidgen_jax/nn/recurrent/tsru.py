"""Recurrent units that warp their past state: the trajectory GRU and transformation-based spatial recurrent units.

TSRUs (TrIVD-GAN-FP, section 3.2.2 and appendix F.5) warp the past state and mix the result with new content c by a gate
u. They differ in the inputs of c and u.
"""

from collections.abc import Callable
from typing import ClassVar

import jax
from flax import linen as nn

from vidgen_jax.nn.recurrent.unit import Weights, fuse, register, split
from vidgen_jax.nn.recurrent.warping import PixelwiseNetwork, WarpingUnit
from vidgen_jax.nn.spectral import add_bias, convolve


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


@register("tsru_p")
class TSRU(WarpingUnit):
  """TSRU_p: warping kernels, candidate c and gate u are computed in parallel from [h; x]."""

  def weights(self, input_features: int, *, train: bool) -> Weights:
    widths = {"c": self.features, "u": self.features, **self.motion_gates(input_features)}
    gates = self.gates(input_features, widths, train=train)
    return fuse(gates, state=tuple(widths)) | self.motion_layers(input_features, train=train)

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
    c, u, motion = split(projected + convolve(state, weights["state"]), self.features, self.features)
    warped, kernels = self.warp(weights, state, motion)
    u = nn.sigmoid(u)  # eq. 9
    return u * warped + (1 - u) * self.activation(c), kernels  # eq. 10, with TSRU_p's c


@register("tsru_c")
class TSRUc(WarpingUnit):
  """TSRU_c: the candidate c reads the warped state, the gate u the past state."""

  def weights(self, input_features: int, *, train: bool) -> Weights:
    motion = self.motion_gates(input_features)
    gates = self.gates(input_features, {"c": self.features, "u": self.features, **motion}, train=train)
    return fuse(gates, state=("u", *motion)) | self.motion_layers(input_features, train=train)

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
    c, u_and_motion = split(projected, self.features)
    u, motion = split(u_and_motion + convolve(state, weights["state"]), self.features)
    warped, kernels = self.warp(weights, state, motion)
    c = self.activation(c + convolve(warped, weights["c"]))  # eq. 8
    u = nn.sigmoid(u)  # eq. 9
    return u * warped + (1 - u) * c, kernels  # eq. 10


@register("tsru_s")
class TSRUs(WarpingUnit):
  """TSRU_s: the candidate c reads the warped state; the gate u reads the warped state and c, but not the input."""

  def weights(self, input_features: int, *, train: bool) -> Weights:
    motion = self.motion_gates(input_features)
    gates = self.gates(input_features, {"c": self.features, **motion}, train=train)
    gates |= self.layer("u", (self.kernel_size, self.kernel_size, 2 * self.features, self.features), train=train)
    kernel = gates.pop("kernel_u")
    gates |= {"u": kernel[:, :, : self.features], "u_of_c": kernel[:, :, self.features :]}
    return fuse(gates, state=tuple(motion), warped=("c", "u")) | self.motion_layers(input_features, train=train)

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
    c, motion = split(projected, self.features)
    warped, kernels = self.warp(weights, state, motion + convolve(state, weights["state"]))
    of_warped, u = split(convolve(warped, weights["warped"]), self.features)
    c = self.activation(c + of_warped)  # eq. 8
    u = nn.sigmoid(add_bias(u + convolve(c, weights["u_of_c"]), weights["bias_u"]))  # eq. 9 with TSRU_s's u
    return u * warped + (1 - u) * c, kernels  # eq. 10


@register("ptsru_s")
class PTSRUs(TSRUs):
  """PTSRU_s: TSRU_s with pixelwise warping."""

  motion_network: ClassVar = PixelwiseNetwork()
