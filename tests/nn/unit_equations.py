"""The recurrent units of TrIVD-GAN-FP as numpy loops in float64, from its equations.

Arrays are [batch, height, width, channels]; weights have the names of the units' parameters; kernels are 3 x 3.
"""

import functools
from collections.abc import Callable, Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _relu(x):
  return np.maximum(x, 0)


def _softmax(x, axis):
  e = np.exp(x - x.max(axis=axis, keepdims=True))
  return e / e.sum(axis=axis, keepdims=True)


def _conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
  """SAME convolution of [B, H, W, C] with [k, k, in, out]."""
  k = kernel.shape[0]
  padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
  out = np.zeros((*x.shape[:3], kernel.shape[-1]))
  for i, j in np.ndindex(*x.shape[1:3]):
    out[:, i, j] = np.einsum("bmnc,mnco->bo", padded[:, i : i + k, j : j + k], kernel)
  return out


def _gate(w: Weights, name: str, *inputs: np.ndarray) -> np.ndarray:
  return _conv(np.concatenate(inputs, axis=-1), w[f"kernel_{name}"]) + w[f"bias_{name}"]


def _pool(x: np.ndarray) -> np.ndarray:
  """Adaptive max-pooling, [B, H, W, n] to [B, 4, 4, n]."""
  _, height, width, _ = x.shape
  out = np.zeros((x.shape[0], 4, 4, x.shape[-1]))
  for i, j in np.ndindex(4, 4):
    rows = slice(i * height // 4, -(-(i + 1) * height // 4))
    columns = slice(j * width // 4, -(-(j + 1) * width // 4))
    out[:, i, j] = x[:, rows, columns].max(axis=(1, 2))
  return out


def motion_kernels(w: Weights, h: np.ndarray, x: np.ndarray) -> np.ndarray:
  """f of appendix F.1 and eq. 12, factorised: W, [B, H, W, 9]."""
  pooled = _pool(_relu(_gate(w, "theta", h, x))).reshape(h.shape[0], -1)
  hidden = _relu(pooled @ w["kernel_hidden"] + w["bias_hidden"])
  basis = _softmax((hidden @ w["kernel_basis"] + w["bias_basis"]).reshape(-1, 9, 9), axis=1)
  selection = _softmax(_gate(w, "selection", h, x), axis=-1)
  mixed = np.zeros((*h.shape[:3], 9))
  for b, i, j, q in np.ndindex(*mixed.shape):
    mixed[b, i, j, q] = sum(selection[b, i, j, n] * basis[b, q, n] for n in range(9))  # eq. 12
  return mixed


def _pixelwise_kernels(w: Weights, h: np.ndarray, x: np.ndarray) -> np.ndarray:
  """f of appendix F.1 with two hidden layers at full resolution: W, [B, H, W, 9]."""
  return _softmax(_gate(w, "taps", _relu(_gate(w, "hidden", _relu(_gate(w, "theta", h, x))))), axis=-1)


def _warp(h: np.ndarray, kernels: np.ndarray) -> np.ndarray:
  out, padded = np.zeros_like(h, np.float64), np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
  for b, i, j in np.ndindex(*h.shape[:3]):
    for m, n in np.ndindex(3, 3):
      out[b, i, j] += kernels[b, i, j, 3 * m + n] * padded[b, i + m, j + n]  # eq. 11
  return out


def _conv_gru_step(w, h, x):
  r = _sigmoid(_gate(w, "r", h, x))  # eq. 1
  c = _relu(_gate(w, "c", r * h, x))  # eqs. 2, 3
  u = _sigmoid(_gate(w, "u", h, x))  # eq. 4
  return u * h + (1 - u) * c  # eq. 5


def _conv_lstm_step(w, h, x, rho):
  """Shi et al. 2015 without peepholes; hidden state and memory side by side (F.3)."""
  hidden, memory = np.split(h, 2, axis=-1)
  i, f, o = (_sigmoid(_gate(w, name, hidden, x)) for name in "ifo")
  memory = f * memory + i * rho(_gate(w, "g", hidden, x))
  return np.concatenate([o * rho(memory), memory], axis=-1)


def _traj_gru_step(w, h, x):
  warped = _warp(h, motion_kernels(w, h, x))  # eqs. 16, 17
  r, u = (_sigmoid(_gate(w, name, warped, x)) for name in "ru")  # eqs. 18, 21
  return u * h + (1 - u) * np.tanh(_gate(w, "c", r * warped, x))  # eqs. 19, 20, 22


def _tsru_p_step(w, h, x):
  warped = _warp(h, motion_kernels(w, h, x))  # eqs. 6, 7
  c, u = _relu(_gate(w, "c", h, x)), _sigmoid(_gate(w, "u", h, x))  # eq. 8 with h for the warped state, eq. 9
  return u * warped + (1 - u) * c  # eq. 10


def _tsru_c_step(w, h, x):
  warped = _warp(h, motion_kernels(w, h, x))  # eqs. 6, 7
  c, u = _relu(_gate(w, "c", warped, x)), _sigmoid(_gate(w, "u", h, x))  # eqs. 8, 9
  return u * warped + (1 - u) * c  # eq. 10


def _tsru_s_step(w, h, x, kernels=motion_kernels):
  warped = _warp(h, kernels(w, h, x))
  c = _relu(_gate(w, "c", warped, x))
  u = _sigmoid(_gate(w, "u", warped, c))  # 3.2.2, replaces eq. 9
  return u * warped + (1 - u) * c


STEPS: Mapping[str, Callable[[Weights, np.ndarray, np.ndarray], np.ndarray]] = {
  "conv_gru": _conv_gru_step,
  "conv_lstm": functools.partial(_conv_lstm_step, rho=_relu),
  "conv_lstm_tanh": functools.partial(_conv_lstm_step, rho=np.tanh),
  "k_traj_gru": _traj_gru_step,
  "tsru_c": _tsru_c_step,
  "tsru_p": _tsru_p_step,
  "tsru_s": _tsru_s_step,
  "ptsru_s": functools.partial(_tsru_s_step, kernels=_pixelwise_kernels),
}
"""One frame by unit name, (weights, state, input) -> state; except the dynamic ConvLSTM, which needs the last input."""


def _predicted_kernels(w: Weights, current: np.ndarray, previous: np.ndarray) -> list[list[np.ndarray]]:
  """The kernel CNN of F.4 for all pairs of channels of one clip: kernels for h and x, [3, 3, in, out] by gate."""
  half, sets = current.shape[-1], len(w["bias_taps"]) // (4 * 9)
  logits = np.zeros((sets, 4, 9, half, half))  # set, gate, tap, input channel, output channel
  for i, j in np.ndindex(half, half):
    difference = (current[..., i] - previous[..., j])[None, ..., None]
    theta = _pool(_relu(_gate(w, "features", difference)))
    hidden = _relu(theta.reshape(-1) @ w["kernel_hidden"] + w["bias_hidden"])
    logits[..., i, j] = (hidden @ w["kernel_taps"] + w["bias_taps"]).reshape(sets, 4, 9)
  of_hidden = _softmax(logits[0], axis=2)
  of_x = _softmax(np.concatenate(logits[1:], axis=2), axis=2)
  return [[kernel.reshape(3, 3, *kernel.shape[1:]) for kernel in part] for part in (of_hidden, of_x)]


def _dynamic_conv_lstm(w: Weights, x: np.ndarray, h: np.ndarray) -> np.ndarray:
  half, states = h.shape[-1] // 2, []
  previous = h[..., :half]
  for t in range(x.shape[1]):
    new = np.zeros_like(h, np.float64)
    for b in range(len(h)):
      of_hidden, of_x = _predicted_kernels(w, x[b, t, ..., :half], previous[b])
      gates = [
        (_conv(h[b : b + 1, ..., :half], of_hidden[g]) + _conv(x[b : b + 1, t], of_x[g]))[0] + w[f"bias_{name}"]
        for g, name in enumerate("ifog")
      ]
      i, f, o = map(_sigmoid, gates[:3])
      memory = f * h[b, ..., half:] + i * np.tanh(gates[3])
      new[b] = np.concatenate([o * np.tanh(memory), memory], axis=-1)
    previous, h = x[:, t, ..., :half], new
    states.append(h)
  return np.stack(states, axis=1)


def run(name: str, w: Weights, x: np.ndarray, h: np.ndarray) -> np.ndarray:
  """States of a unit after each frame, [B, T, H, W, C], from inputs x with the same axes and the first state h."""
  if name == "dynamic_conv_lstm":
    return _dynamic_conv_lstm(w, x, h)
  states = []
  for t in range(x.shape[1]):
    h = STEPS[name](w, h, x[:, t])
    states.append(h)
  return np.stack(states, axis=1)
