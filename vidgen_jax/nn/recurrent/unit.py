"""The common interface of all recurrent units, their registry, and the scan over frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vidgen_jax.nn.spectral import add_bias, convolve, kernel_param
from vidgen_jax.ops import loops

MOTION = "motion"
"""The collection that receives the kernels [B, T, H, W, k*k] of warping units, if it is mutable."""

Weights = Mapping[str, jax.Array]
Projected = Any
"""The part of a unit that does not depend on the recurrence: a pytree of arrays with frames on axis 1."""


class RecurrentUnit(nn.Module):
  """A recurrent unit: weights and inputs are processed once, then `step` runs for each frame.

  Spectral norms are computed once per call, outside of the recurrence. Convolutions are linear, so the part of a gate's
  convolution that acts on the input x does not depend on the recurrence: `project` computes it for all frames at once,
  and only the part that acts on the past state is in the scan.

  Attributes:
    features: channels of the state, which is also the output.
    kernel_size: size of the gates' convolutions and of warping kernels; odd.
    activation: rho, activation of the candidate state.
    remat: whether the backward pass recomputes the activations of a step.
  """

  features: int
  kernel_size: int = 3
  activation: Callable[[jax.Array], jax.Array] = nn.relu
  spectral_norm: bool = True
  remat: bool = False
  dtype: Any = jnp.float32

  moves: ClassVar[bool] = False
  """Whether the unit warps its state and stores its kernels in `MOTION`."""

  @property
  def hidden_features(self) -> int:
    """Channels of the past state that the gates' convolutions read."""
    return self.features

  def weights(self, input_features: int, *, train: bool) -> Weights:
    """Declares the parameters for inputs with `input_features` channels and returns them, normalised and fused."""
    raise NotImplementedError

  def project(self, weights: Weights, x: jax.Array, initial_state: jax.Array, *, num_steps: int) -> Projected:
    """The part of all gates that does not depend on the recurrence: [B, T, H, W, P], or a pytree of [B, T, ...].

    x is [B, T, H, W, C], where T is num_steps, or 1 for a constant input; initial_state is [B, H, W, features].
    """
    del initial_state, num_steps
    return add_bias(convolve(x, weights["input"]), weights["bias"])

  def step(self, weights: Weights, state: jax.Array, projected: Projected) -> tuple[jax.Array, jax.Array | None]:
    """Computes one frame from the past state [B, H, W, features] and a frame of `project`'s result.

    Returns:
      (new state, kernels [B, H, W, k*k] that warped the old state; None for units that do not warp).
    """
    raise NotImplementedError

  @nn.compact
  def __call__(self, x: jax.Array, initial_state: jax.Array, *, num_steps: int, train: bool) -> jax.Array:
    """Returns the states after each step, [B, num_steps, H, W, features].

    Args:
      x: [B, num_steps, H, W, C], or [B, 1, H, W, C] for a constant input.
      initial_state: [B, H, W, features].
      num_steps: number of frames to generate.
      train: whether to advance the power iterations.

    Raises:
      ValueError: x has neither 1 nor num_steps frames, or the shape of the state does not match.
      UserError: the unit does not support this number of features.
    """
    if x.shape[1] not in (1, num_steps):
      raise ValueError(f"the unit needs inputs for 1 or {num_steps} steps, got {x.shape[1]}")
    expected = (x.shape[0], *x.shape[2:4], self.features)
    if initial_state.shape != expected:
      raise ValueError(f"the unit needs an initial state {expected} for inputs {x.shape}, got {initial_state.shape}")
    weights = self.weights(x.shape[-1], train=train)
    state = initial_state.astype(self.dtype)
    projected = self.project(weights, x.astype(self.dtype), state, num_steps=num_steps)
    is_constant = jax.tree.leaves(projected)[0].shape[1] == 1
    constant = jax.tree.map(lambda leaf: leaf[:, 0], projected)
    frames = None if is_constant else jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), projected)

    def body(state: jax.Array, frame: Projected) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
      state, motion = self.step(weights, state, constant if frame is None else frame)
      return state, (state, motion)

    step = jax.checkpoint(body) if self.remat else body
    _, (states, motion) = loops.scan(step, state, frames, length=num_steps)
    if motion is not None and self.is_mutable_collection(MOTION):
      self.sow(MOTION, "kernels", jnp.moveaxis(motion, 0, 1), reduce_fn=lambda _, new: new)
    return jnp.moveaxis(states, 0, 1)

  def gates(self, input_features: int, gates: Mapping[str, int], *, train: bool) -> dict[str, jax.Array]:
    """Declares one kernel and bias per gate over [h; x], and splits the kernels into their parts for x and for h.

    `gates` are output channels by gate name.

    Returns:
      'input': parts of all gates for x side by side, [k, k, C, P]; 'bias': [P]; and '{gate}': part of each gate for the
        state, [k, k, hidden_features, width].
    """
    k, hidden = self.kernel_size, self.hidden_features
    shapes = {name: (k, k, hidden + input_features, width) for name, width in gates.items()}
    kernels = {name: self._kernel(name, shape, train=train) for name, shape in shapes.items()}
    biases = [self.bias(name, width) for name, width in gates.items()]
    shares = {name: kernel[:, :, :hidden] for name, kernel in kernels.items()}
    return shares | {
      "input": jnp.concatenate([kernel[:, :, hidden:] for kernel in kernels.values()], axis=-1),
      "bias": jnp.concatenate(biases),
    }

  def layer(self, name: str, shape: Sequence[int], *, train: bool) -> dict[str, jax.Array]:
    """Declares the kernel 'kernel_{name}' of this shape and the bias 'bias_{name}'."""
    return {f"kernel_{name}": self._kernel(name, shape, train=train), f"bias_{name}": self.bias(name, shape[-1])}

  def bias(self, name: str, width: int) -> jax.Array:
    """Declares 'bias_{name}', [width]."""
    return self.param(f"bias_{name}", nn.initializers.zeros, (width,), jnp.float32)

  def _kernel(self, name: str, shape: Sequence[int], *, train: bool) -> jax.Array:
    return kernel_param(self, f"kernel_{name}", shape, spectral_norm=self.spectral_norm, train=train)


RECURRENT_UNITS: dict[str, type[RecurrentUnit]] = {}
"""Units by the name that configs use."""

_Unit = TypeVar("_Unit", bound=RecurrentUnit)


def register(name: str) -> Callable[[type[_Unit]], type[_Unit]]:
  """A class decorator that adds a unit to `RECURRENT_UNITS`."""

  def decorate(unit: type[_Unit]) -> type[_Unit]:
    RECURRENT_UNITS[name] = unit
    return unit

  return decorate


def fuse(weights: Weights, **groups: Sequence[str]) -> dict[str, jax.Array]:
  """Concatenates kernels [..., width] that act on the same array, so that one convolution replaces several.

  `groups` are the names of the kernels in each fused kernel, in order, by its name; other weights stay as they are.
  """
  parts = {name for names in groups.values() for name in names}
  fused = {group: jnp.concatenate([weights[name] for name in names], axis=-1) for group, names in groups.items()}
  return {name: weight for name, weight in weights.items() if name not in parts} | fused


def split(x: jax.Array, *widths: int) -> list[jax.Array]:
  """Splits the last axis into parts of these widths and the rest."""
  return jnp.split(x, np.cumsum(widths).tolist(), axis=-1)


def affine(x: jax.Array, weights: Weights, name: str) -> jax.Array:
  """Applies the `RecurrentUnit.layer` of that name to the last axis of x, in x's dtype."""
  return add_bias(x @ weights[f"kernel_{name}"].astype(x.dtype), weights[f"bias_{name}"])
