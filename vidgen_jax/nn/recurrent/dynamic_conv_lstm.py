"""A convolutional LSTM with kernels predicted from the inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.nn.recurrent.convolutional import LSTM, LSTM_GATES
from vidgen_jax.nn.recurrent.unit import Weights, affine, register, split
from vidgen_jax.nn.spectral import add_bias, convolve
from vidgen_jax.ops import resampling

POOLED = 4
"""Side of the grid to which the kernel CNN pools its maps."""


@register("dynamic_conv_lstm")
class DynamicConvLSTM(LSTM):
  """A ConvLSTM with separate kernels for every clip and frame (Xu et al. 2018; TrIVD-GAN-FP, appendix F.4, no Fus-4).

  With c_h = features / 2, a small CNN maps the difference F_t[i] - F_{t-1}[j] of the inputs' first c_h channels to the
  k x k kernels from input channel i to output channel j. All pairs of channels share the CNN. For x with q c_h channels
  there are q + 1 kernels per pair and gate: one for the hidden state and q for x. The weights of each tap are a softmax
  over the input channels. The frame before the first is the first c_h channels of the initial state.

  The paper does not specify the CNN. Here it is a convolution, ReLU, max-pooling to 4x4 and a perceptron with one
  hidden layer, like the motion network of appendix F.1. The candidate's activation is tanh, also our choice: predicted
  kernels are positive and sum to k*k, so an unbounded state would grow in every step.

  The kernels do not depend on the recurrence and are computed for all frames at once. Cost and memory grow with the
  square of the channels; the paper uses this unit as a slow comparison.

  Attributes:
    cnn_features: channels of the CNN's convolution.
    cnn_hidden: width of the CNN's hidden layer.
  """

  activation: Callable[[jax.Array], jax.Array] = nn.tanh
  cnn_features: int = 8
  cnn_hidden: int = 32

  def weights(self, input_features: int, *, train: bool) -> Weights:
    """See `RecurrentUnit.weights`; UserError if the channels of x are not a multiple of c_h."""
    if input_features % self.hidden_features:
      raise UserError(
        f"a Dynamic ConvLSTM with {self.features} features needs inputs with a multiple of {self.hidden_features} "
        f"channels, got {input_features}; change algorithm.generator_multipliers"
      )
    sets = input_features // self.hidden_features + 1
    shapes = {
      "features": (self.kernel_size, self.kernel_size, 1, self.cnn_features),
      "hidden": (POOLED**2 * self.cnn_features, self.cnn_hidden),
      "taps": (self.cnn_hidden, sets * len(LSTM_GATES) * self.kernel_size**2),
    }
    weights = {"bias": jnp.concatenate([self.bias(gate, self.hidden_features) for gate in LSTM_GATES])}
    for name, shape in shapes.items():
      weights |= self.layer(name, shape, train=train)
    return weights

  def project(
    self, weights: Weights, x: jax.Array, initial_state: jax.Array, *, num_steps: int
  ) -> tuple[jax.Array, jax.Array]:
    """The gates' part for x, [B, num_steps, H, W, 4 c_h], and the kernels for h, [B, num_steps, k*k, c_h, 4 c_h]."""
    is_constant = x.shape[1] < num_steps
    # A constant input has two kinds of kernels: those of the first frame and those of all frames after it.
    x = jnp.concatenate([x, x], axis=1) if is_constant else x
    first = initial_state[:, None, ..., : self.hidden_features]
    previous = jnp.concatenate([first, x[:, :-1, ..., : self.hidden_features]], axis=1)
    predict = jax.checkpoint(self.kernels) if self.remat else self.kernels
    h_kernels, x_kernels = predict(weights, x[..., : self.hidden_features], previous)
    frames, kernels = (array.reshape(-1, *array.shape[2:]) for array in (x, x_kernels))
    projected = add_bias(dynamic_convolve(frames, kernels), weights["bias"])
    projected = projected.reshape(*x.shape[:-1], -1)
    if is_constant:
      steps = [min(t, 1) for t in range(num_steps)]
      return jax.tree.map(lambda array: jnp.stack([array[:, t] for t in steps], axis=1), (projected, h_kernels))
    return projected, h_kernels

  def step(self, weights: Weights, state: jax.Array, projected: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
    del weights
    hidden, memory = split(state, self.hidden_features)
    of_x, kernels = projected
    return self.update(of_x + dynamic_convolve(hidden, kernels), memory), None

  def kernels(self, weights: Weights, current: jax.Array, previous: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The predicted kernels of all gates, in the order of `LSTM_GATES`.

    `current` are the first c_h channels of the inputs, [B, T, H, W, c_h], `previous` those of the frames before.

    Returns:
      (kernels for the hidden state [B, T, k*k, c_h, 4 c_h], kernels for the inputs [B, T, k*k, q c_h, 4 c_h]).
    """
    batch, frames, height, width, channels = current.shape
    # The convolution is linear, so it is applied to channels instead of their differences: n results, not n^2.
    maps = jnp.moveaxis(jnp.stack([current, previous]), -1, 3).reshape(-1, height, width, 1)
    maps = convolve(maps, weights["kernel_features"]).reshape(2, batch * frames, channels, height, width, -1)
    current, previous = (jnp.moveaxis(array, 1, 3) for array in maps)  # [B * T, H, W, c_h, n]
    pairs = current[..., :, None, :] - previous[..., None, :, :]
    pooled = resampling.adaptive_max_pool(pairs.reshape(*pairs.shape[:3], -1), POOLED)
    pooled = nn.relu(add_bias(pooled.reshape(*pooled.shape[:3], *pairs.shape[3:]), weights["bias_features"]))
    pooled = jnp.moveaxis(pooled, (1, 2), (3, 4)).reshape(batch, frames, channels, channels, -1)
    logits = affine(nn.relu(affine(pooled, weights, "hidden")), weights, "taps").astype(jnp.float32)
    # [B, T, input channel, output channel, set, gate, tap] -> [B, T, tap, set, input channel, gate, output channel]
    logits = logits.reshape(*logits.shape[:4], -1, len(LSTM_GATES), self.kernel_size**2)
    logits = logits.transpose(0, 1, 6, 4, 2, 5, 3)
    shape = (batch, frames, self.kernel_size**2, -1, len(LSTM_GATES) * channels)
    parts = (logits[:, :, :, :1].reshape(shape), logits[:, :, :, 1:].reshape(shape))
    of_hidden, of_input = (nn.softmax(part, axis=3).astype(current.dtype) for part in parts)
    return of_hidden, of_input


def dynamic_convolve(images: jax.Array, kernels: jax.Array) -> jax.Array:
  """SAME convolution of images [N, H, W, C] with a kernel for each, as k*k shifted matrix products.

  `kernels` are [N, k*k, C, out] with odd k, of the images' dtype; returns [N, H, W, out].
  """
  size = round(kernels.shape[1] ** 0.5)
  radius = size // 2
  _, height, width, _ = images.shape
  padded = jnp.pad(images, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
  total: Any = 0.0
  for tap in range(size * size):
    m, n = divmod(tap, size)
    window = padded[:, m : m + height, n : n + width]
    total = total + jnp.einsum("bhwc,bco->bhwo", window, kernels[:, tap])
  return total
