"""Units that warp their past state, and the networks f that predict the kernels (TrIVD-GAN-FP, appendices B, F.1)."""

from collections.abc import Mapping
from typing import ClassVar

import jax
from flax import linen as nn

from vidgen_jax.nn.recurrent.unit import RecurrentUnit, Weights, affine
from vidgen_jax.nn.spectral import add_bias, convolve
from vidgen_jax.ops import resampling, warp


class FactorisedNetwork:
  """f: N = k*k kernels w for the whole image, and a map S that mixes them at every position (eq. 12).

  w comes from a convolution, max-pooling to 4x4 and a perceptron with one hidden layer; S from one convolution. The
  first convolutions act on [h; x], like gates. Hidden layers have half as many channels as [h; x].
  """

  def gates(self, hidden: int, taps: int) -> Mapping[str, int]:
    """Output channels of the convolutions on [h; x], by name."""
    return {"theta": hidden, "selection": taps}

  def layers(self, hidden: int, kernel_size: int) -> Mapping[str, tuple[int, ...]]:
    """Kernel shapes of the other layers, by name; each layer has a bias."""
    return {"hidden": (4 * 4 * hidden, hidden), "basis": (hidden, kernel_size**4)}

  def kernels(self, weights: Weights, convolved: jax.Array, taps: int) -> jax.Array:
    """W float32 [B, H, W, k*k], a distribution over the taps, from the concatenated outputs of `gates`."""
    theta, selection = convolved[..., :-taps], convolved[..., -taps:]
    pooled = resampling.adaptive_max_pool(nn.relu(theta), 4).reshape(theta.shape[0], -1)
    basis = affine(nn.relu(affine(pooled, weights, "hidden")), weights, "basis")
    basis = nn.softmax(basis.reshape(-1, taps, taps).astype("float32"), axis=1)
    return warp.combine_kernels(basis, nn.softmax(selection.astype("float32"), axis=-1))


class PixelwiseNetwork(FactorisedNetwork):
  """f: W for each position from a CNN with two hidden layers at full resolution."""

  def gates(self, hidden: int, taps: int) -> Mapping[str, int]:
    del taps
    return {"theta": hidden}

  def layers(self, hidden: int, kernel_size: int) -> Mapping[str, tuple[int, ...]]:
    window = (kernel_size, kernel_size)
    return {"hidden": (*window, hidden, hidden), "taps": (*window, hidden, kernel_size**2)}

  def kernels(self, weights: Weights, convolved: jax.Array, taps: int) -> jax.Array:
    del taps
    theta = nn.relu(convolved)
    theta = nn.relu(add_bias(convolve(theta, weights["kernel_hidden"]), weights["bias_hidden"]))
    logits = add_bias(convolve(theta, weights["kernel_taps"]), weights["bias_taps"])
    return nn.softmax(logits.astype("float32"), axis=-1)


class WarpingUnit(RecurrentUnit):
  """A unit that warps its past state with kernels from a motion network (TrIVD-GAN-FP, eqs. 6, 7)."""

  moves: ClassVar[bool] = True
  motion_network: ClassVar[FactorisedNetwork] = FactorisedNetwork()

  @property
  def taps(self) -> int:
    """k*k: size of a kernel, and number N of kernels in a factorised set (section 3.2.2)."""
    return self.kernel_size**2

  def motion_gates(self, input_features: int) -> Mapping[str, int]:
    """Output channels of the motion network's convolutions on [h; x], which are declared with the gates."""
    return self.motion_network.gates((self.features + input_features) // 2, self.taps)

  def motion_layers(self, input_features: int, *, train: bool) -> dict[str, jax.Array]:
    """Declares the other layers of the motion network."""
    weights = {}
    shapes = self.motion_network.layers((self.features + input_features) // 2, self.kernel_size)
    for name, shape in shapes.items():
      weights |= self.layer(name, shape, train=train)
    return weights

  def warp(self, weights: Weights, state: jax.Array, convolved: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Warps a state [B, H, W, features]; returns it and its kernels [B, H, W, k*k], distributions over the taps.

    `convolved` are the outputs of the motion network's convolutions on [h; x], [B, H, W, sum of `motion_gates`].
    """
    kernels = self.motion_network.kernels(weights, convolved, self.taps)  # eq. 6
    return warp.warp(state, kernels), kernels  # eq. 7
