"""Convolutional recurrent units for video, with one interface for all (paper 004, section 3.2 and appendix F).

Example:
  unit = TSRU(features=32)
  variables = unit.init(key, x, state, num_steps=11, train=False)      # x [B, 11, H, W, C], state [B, H, W, 32]
  states = unit.apply(variables, x, state, num_steps=11, train=False)  # [B, 11, H, W, 32]
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax import loops
from vidgen_jax.nn.spectral import add_bias, convolve, kernel_param
from vidgen_jax.ops import resampling, warp

MOTION = "motion"
"""The collection in which warping units leave their kernels [B, T, H, W, k*k], where a caller makes it mutable."""

Weights = Mapping[str, jax.Array]


class RecurrentUnit(nn.Module):
  """The scan that all units share: weights once, inputs once, then one `step` a frame.

  Spectral norms are computed once a call, outside the recurrence. Convolutions are linear, so the share of a gate's
  convolution that acts on the input x does not depend on the recurrence: `project` computes it for all frames
  at once, and only the share that acts on the past state stays inside the scan.

  Attributes:
    features: channels of the state, which is also the output.
    kernel_size: of the gates' convolutions.
    activation: rho, of the candidate state.
    spectral_norm: on all kernels.
    unroll: unrolls the recurrence (short sequences on a CPU, where weight gradients inside a loop are slow).
    remat: recomputes a step's activations in the backward pass instead of keeping them.
    dtype: of the computation.
  """

  features: int
  kernel_size: int = 3
  activation: Callable[[jax.Array], jax.Array] = nn.relu
  spectral_norm: bool = True
  unroll: bool = False
  remat: bool = False
  dtype: Any = jnp.float32

  def weights(self, input_features: int, *, train: bool) -> Weights:
    """Declares the parameters, given the channels of x, and returns them ready for use."""
    raise NotImplementedError

  def project(self, weights: Weights, x: jax.Array) -> jax.Array:
    """The part of all gates that depends on x only: [B, T, H, W, C] to [B, T, H, W, P]."""
    return add_bias(convolve(x, weights["input"]), weights["bias"])

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """One frame: (state [B, H, W, features], projected [B, H, W, P]) to (new state, motion kernels or None)."""
    raise NotImplementedError

  @nn.compact
  def __call__(self, x: jax.Array, initial_state: jax.Array, *, num_steps: int, train: bool) -> jax.Array:
    """Runs the unit.

    Args:
      x: [B, num_steps, H, W, C], or [B, 1, H, W, C] for an input that is the same at every step.
      initial_state: [B, H, W, features].
      num_steps: frames to unroll.
      train: whether to advance the power iterations.

    Returns:
      The states after each step, [B, num_steps, H, W, features].

    Raises:
      ValueError: if x has neither 1 nor num_steps frames.
    """
    if x.shape[1] not in (1, num_steps):
      raise ValueError(f"the unit needs inputs for 1 or {num_steps} steps, got {x.shape[1]}")
    weights = self.weights(x.shape[-1], train=train)
    projected = self.project(weights, x.astype(self.dtype))
    constant = projected[:, 0] if projected.shape[1] == 1 else None

    def body(state: jax.Array, frame: jax.Array | None) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
      state, motion = self.step(weights, state, constant if frame is None else frame)
      return state, (state, motion)

    frames = None if constant is not None else jnp.moveaxis(projected, 1, 0)
    body = jax.checkpoint(body) if self.remat else body
    _, (states, motion) = loops.scan(
      body, initial_state.astype(self.dtype), frames, length=num_steps, unroll=self.unroll
    )
    if motion is not None and self.is_mutable_collection(MOTION):
      self.sow(MOTION, "kernels", jnp.moveaxis(motion, 0, 1), reduce_fn=lambda _, new: new)
    return jnp.moveaxis(states, 0, 1)

  def gates(self, input_features: int, gates: Mapping[str, int], *, train: bool) -> dict[str, jax.Array]:
    """Declares one kernel and bias per gate over [h; x], and splits them by what they act on.

    Args:
      input_features: channels of x.
      gates: output channels by gate name.
      train: see `kernel_param`.

    Returns:
      'input': the x-shares of all gates side by side, [k, k, C, P]; 'bias': [P]; and '{gate}': each gate's share
      for the state, [k, k, features, width].
    """
    k, total = self.kernel_size, self.features + input_features
    kernels = {
      name: kernel_param(self, f"kernel_{name}", (k, k, total, width), spectral_norm=self.spectral_norm, train=train)
      for name, width in gates.items()
    }
    biases = [self.param(f"bias_{name}", nn.initializers.zeros, (width,), jnp.float32) for name, width in gates.items()]
    shares = {name: kernel[:, :, : self.features] for name, kernel in kernels.items()}
    return shares | {
      "input": jnp.concatenate([kernel[:, :, self.features :] for kernel in kernels.values()], axis=-1),
      "bias": jnp.concatenate(biases),
    }


class ConvGRU(RecurrentUnit):
  """Convolutional gated recurrent unit (paper 004, eqs. 1-5; ReLU candidate, appendix F.1)."""

  def weights(self, input_features: int, *, train: bool) -> Weights:
    """See `RecurrentUnit.weights`."""
    gates = self.gates(input_features, dict.fromkeys("ruc", self.features), train=train)
    gates["ru"] = jnp.concatenate([gates.pop("r"), gates.pop("u")], axis=-1)
    return gates

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, None]:
    """See `RecurrentUnit.step`."""
    r, u, c = jnp.split(projected, 3, axis=-1)
    h_r, h_u = jnp.split(convolve(state, weights["ru"]), 2, axis=-1)
    r = nn.sigmoid(r + h_r)  # eq. 1
    c = self.activation(c + convolve(r * state, weights["c"]))  # eqs. 2, 3
    u = nn.sigmoid(u + h_u)  # eq. 4
    return u * state + (1 - u) * c, None  # eq. 5


class TSRU(RecurrentUnit):
  """Transformation-based spatial recurrent unit, parallel variant TSRU_p (paper 004, section 3.2.2).

  theta, the candidate c and the gate u are computed in parallel from [h; x]; theta = (w, S) is a set of N = k*k
  kernels for the whole clip and a map that selects among them, with which the past state is warped. The kernels
  come from a convolution, a max-pooling to 4x4 and a perceptron with one hidden layer (appendix F.1).
  """

  POOLED = 4

  @property
  def taps(self) -> int:
    """k*k, the size of a kernel and also their number N (section 3.2.2)."""
    return self.kernel_size**2

  def weights(self, input_features: int, *, train: bool) -> Weights:
    """See `RecurrentUnit.weights`."""
    hidden = (self.features + input_features) // 2
    widths = {"c": self.features, "u": self.features, "theta": hidden, "selection": self.taps}
    gates = self.gates(input_features, widths, train=train)
    gates["state"] = jnp.concatenate([gates.pop(name) for name in widths], axis=-1)
    for name, shape in {
      "hidden": (self.POOLED**2 * hidden, hidden),
      "basis": (hidden, self.taps * self.taps),
    }.items():
      gates[f"kernel_{name}"] = kernel_param(
        self, f"kernel_{name}", shape, spectral_norm=self.spectral_norm, train=train
      )
      gates[f"bias_{name}"] = self.param(f"bias_{name}", nn.initializers.zeros, shape[-1:], jnp.float32)
    return gates

  def step(self, weights: Weights, state: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
    """See `RecurrentUnit.step`."""
    total = projected + convolve(state, weights["state"])
    cut = (self.features, 2 * self.features, total.shape[-1] - self.taps)
    c, u, theta, selection = jnp.split(total, cut, axis=-1)
    kernels = self.motion_kernels(weights, theta, selection)  # eq. 6
    warped = warp.warp(state, kernels)  # eq. 7
    u = nn.sigmoid(u)  # eq. 9
    return u * warped + (1 - u) * self.activation(c), kernels  # eq. 10, with TSRU_p's c

  def motion_kernels(self, weights: Weights, theta: jax.Array, selection: jax.Array) -> jax.Array:
    """The per-position kernels W [B, H, W, k*k], each a distribution over the k*k taps.

    Args:
      weights: of the unit.
      theta: [B, H, W, hidden], the hidden convolution before its ReLU.
      selection: [B, H, W, N], logits of S.
    """
    pooled = resampling.adaptive_max_pool(nn.relu(theta), self.POOLED).reshape(theta.shape[0], -1)
    hidden = nn.relu(_affine(pooled, weights["kernel_hidden"], weights["bias_hidden"]))
    basis = _affine(hidden, weights["kernel_basis"], weights["bias_basis"])
    basis = basis.reshape(-1, self.taps, self.taps).astype(jnp.float32)
    kernels = nn.softmax(basis, axis=1)
    return warp.combine_kernels(kernels, nn.softmax(selection.astype(jnp.float32), axis=-1))


def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  return add_bias(x @ kernel.astype(x.dtype), bias)


RECURRENT_UNITS: Mapping[str, type[RecurrentUnit]] = {"conv_gru": ConvGRU, "tsru_p": TSRU}
"""Units by the name that configs use."""
