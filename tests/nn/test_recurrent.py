"""Recurrent units against numpy loops written from the equations of paper 004.

The parameters are drawn with numpy into the shapes that a unit declares: no initialiser runs, and no kernel is
orthogonal, so that spectral normalisation matters.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.nn.recurrent import MOTION, RECURRENT_UNITS, TSRU, ConvGRU
from vidgen_jax.nn.spectral import SPECTRAL_STATS

BATCH, STEPS, HEIGHT, WIDTH, FEATURES, INPUTS = 2, 3, 5, 6, 4, 2


def _inputs(steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(0)
  x = rng.normal(size=(BATCH, steps, HEIGHT, WIDTH, INPUTS)).astype(np.float32)
  return x, rng.normal(size=(BATCH, HEIGHT, WIDTH, FEATURES)).astype(np.float32)


@functools.cache
def _variables(unit_type):
  init = functools.partial(unit_type(FEATURES).init, num_steps=STEPS, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), *_inputs())
  rng = np.random.default_rng(1)
  names = ("params", SPECTRAL_STATS)
  return {name: {k: rng.normal(size=v.shape).astype(np.float32) for k, v in shapes[name].items()} for name in names}


@functools.cache
def _run(unit, steps: int = STEPS):
  """(states, motion kernels or None) for the common input."""
  apply = functools.partial(unit.apply, num_steps=STEPS, train=False, mutable=[MOTION])
  states, changed = jax.jit(apply)(_variables(type(unit)), *_inputs(steps))
  return np.asarray(states), changed.get(MOTION, {}).get("kernels")


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


def _weights(unit_type) -> dict[str, np.ndarray]:
  """The parameters in float64, each kernel divided by v^T W u after one power iteration from the stored u."""
  variables = _variables(unit_type)
  weights = {name: value.astype(np.float64) for name, value in variables["params"].items()}
  for name, u in variables[SPECTRAL_STATS].items():
    kernel = weights[name.removesuffix("_u")]
    matrix = kernel.reshape(-1, kernel.shape[-1])
    v = matrix @ u / np.linalg.norm(matrix @ u)
    u = matrix.T @ v / np.linalg.norm(matrix.T @ v)
    weights[name.removesuffix("_u")] = kernel / (v @ matrix @ u)
  return weights


def _conv_gru_loop(x: np.ndarray, h: np.ndarray) -> np.ndarray:
  w, states = _weights(ConvGRU), []
  for t in range(x.shape[1]):
    joint = np.concatenate([h, x[:, t]], axis=-1)
    r = _sigmoid(_conv(joint, w["kernel_r"]) + w["bias_r"])  # eq. 1
    reset = np.concatenate([r * h, x[:, t]], axis=-1)  # eq. 2
    c = _relu(_conv(reset, w["kernel_c"]) + w["bias_c"])  # eq. 3
    u = _sigmoid(_conv(joint, w["kernel_u"]) + w["bias_u"])  # eq. 4
    h = u * h + (1 - u) * c  # eq. 5
    states.append(h)
  return np.stack(states, axis=1)


def _motion_kernels(w: dict[str, np.ndarray], joint: np.ndarray) -> np.ndarray:
  """f of appendix F.1 and eq. 12: W, [B, H, W, 9]."""
  theta = _relu(_conv(joint, w["kernel_theta"]) + w["bias_theta"])
  pooled = np.zeros((BATCH, 4, 4, theta.shape[-1]))
  for i, j in np.ndindex(4, 4):
    rows = slice(i * HEIGHT // 4, -(-(i + 1) * HEIGHT // 4))
    columns = slice(j * WIDTH // 4, -(-(j + 1) * WIDTH // 4))
    pooled[:, i, j] = theta[:, rows, columns].max(axis=(1, 2))
  hidden = _relu(pooled.reshape(BATCH, -1) @ w["kernel_hidden"] + w["bias_hidden"])
  basis = _softmax((hidden @ w["kernel_basis"] + w["bias_basis"]).reshape(BATCH, 9, 9), axis=1)
  selection = _softmax(_conv(joint, w["kernel_selection"]) + w["bias_selection"], axis=-1)
  mixed = np.zeros((BATCH, HEIGHT, WIDTH, 9))
  for b, i, j, q in np.ndindex(*mixed.shape):
    mixed[b, i, j, q] = sum(selection[b, i, j, n] * basis[b, q, n] for n in range(9))  # eq. 12
  return mixed


def _warp(h: np.ndarray, kernels: np.ndarray) -> np.ndarray:
  out, padded = np.zeros_like(h, np.float64), np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
  for b, i, j in np.ndindex(BATCH, HEIGHT, WIDTH):
    for m, n in np.ndindex(3, 3):
      out[b, i, j] += kernels[b, i, j, 3 * m + n] * padded[b, i + m, j + n]  # eq. 11
  return out


@functools.cache
def _tsru_loop() -> tuple[np.ndarray, np.ndarray]:
  x, h = _inputs()
  w, states, motion = _weights(TSRU), [], []
  for t in range(x.shape[1]):
    joint = np.concatenate([h, x[:, t]], axis=-1)
    kernels = _motion_kernels(w, joint)  # eq. 6
    warped = _warp(h, kernels)  # eq. 7
    c = _relu(_conv(joint, w["kernel_c"]) + w["bias_c"])  # eq. 8 with h in the place of the warped state: TSRU_p
    u = _sigmoid(_conv(joint, w["kernel_u"]) + w["bias_u"])  # eq. 9
    h = u * warped + (1 - u) * c  # eq. 10
    states.append(h)
    motion.append(kernels)
  return np.stack(states, axis=1), np.stack(motion, axis=1)


def test_conv_gru_against_its_equations():
  np.testing.assert_allclose(_run(ConvGRU(FEATURES))[0], _conv_gru_loop(*_inputs()), rtol=1e-4, atol=1e-5)


def test_tsru_against_its_equations():
  np.testing.assert_allclose(_run(TSRU(FEATURES))[0], _tsru_loop()[0], rtol=1e-4, atol=1e-5)


def test_motion_kernels_are_distributions_over_the_taps():
  motion = _run(TSRU(FEATURES))[1]
  assert motion.shape == (BATCH, STEPS, HEIGHT, WIDTH, 9)
  np.testing.assert_allclose(jnp.sum(motion, axis=-1), np.ones((BATCH, STEPS, HEIGHT, WIDTH)), rtol=1e-5)
  assert float(jnp.min(motion)) >= 0
  np.testing.assert_allclose(motion, _tsru_loop()[1], rtol=1e-4, atol=1e-5)


def test_motion_is_kept_only_on_request():
  unit = TSRU(FEATURES)
  apply = functools.partial(unit.apply, num_steps=STEPS, train=True, mutable=[SPECTRAL_STATS])
  _, changed = jax.eval_shape(apply, _variables(TSRU), *_inputs())
  assert set(changed) == {SPECTRAL_STATS}
  assert _run(ConvGRU(FEATURES))[1] is None


@pytest.mark.parametrize("unit_type", RECURRENT_UNITS.values())
def test_an_unrolled_recurrence_gives_the_same_states(unit_type):
  unrolled, scanned = _run(unit_type(FEATURES, unroll=True)), _run(unit_type(FEATURES))
  np.testing.assert_allclose(unrolled[0], scanned[0], rtol=1e-5, atol=1e-6)
  if unit_type is TSRU:
    np.testing.assert_allclose(unrolled[1], scanned[1], rtol=1e-5, atol=1e-6)


def test_rematerialisation_changes_no_gradient():
  def loss(params, x, state, *, unit):
    return jnp.sum(jnp.square(unit.apply({"params": params}, x, state, num_steps=STEPS, train=False)))

  results = []
  for remat in (False, True):
    unit = ConvGRU(FEATURES, spectral_norm=False, remat=remat)
    differentiate = jax.value_and_grad(functools.partial(loss, unit=unit))
    assert ("remat" in str(jax.make_jaxpr(differentiate)(_weights(ConvGRU), *_inputs()))) == remat
    results.append(jax.jit(differentiate)(_weights(ConvGRU), *_inputs()))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), *results)


@pytest.mark.parametrize("unit_type", RECURRENT_UNITS.values())
def test_a_constant_input_equals_a_repeated_one(unit_type):
  x, state = _inputs(1)
  unit = unit_type(FEATURES)
  apply = jax.jit(functools.partial(unit.apply, num_steps=STEPS, train=False))
  variables = _variables(unit_type)
  repeated = apply(variables, np.repeat(x, STEPS, axis=1), state)
  np.testing.assert_allclose(apply(variables, x, state), repeated, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit_type", RECURRENT_UNITS.values())
def test_inputs_for_some_of_the_steps_are_refused(unit_type):
  with pytest.raises(ValueError, match="1 or 3 steps, got 2"):
    unit_type(FEATURES).apply(_variables(unit_type), *_inputs(2), num_steps=STEPS, train=False)


# Channels that convolutions inside the recurrence read: the state's, half of them for the LSTM's hidden state; and the
# hidden layers of ptsru_s. The dynamic LSTM predicts its kernels from pairs of channels, outside.
READ_INSIDE = {"conv_lstm": {2}, "conv_lstm_tanh": {2}, "ptsru_s": {3, FEATURES}}


@pytest.mark.parametrize("name", [name for name in RECURRENT_UNITS if name != "dynamic_conv_lstm"])
def test_inputs_are_convolved_outside_of_the_recurrence(name):
  unit_type = RECURRENT_UNITS[name]
  unit = unit_type(FEATURES, spectral_norm=False)
  init = functools.partial(unit.init, num_steps=STEPS, train=False)
  apply = functools.partial(unit.apply, num_steps=STEPS, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), *_inputs())
  jaxpr = jax.make_jaxpr(apply)({"params": shapes["params"]}, *_inputs()).jaxpr
  (loop,) = (equation for equation in jaxpr.eqns if equation.primitive.name == "scan")
  outside = [equation for equation in jaxpr.eqns if equation.primitive.name == "conv_general_dilated"]
  inside = [e for e in loop.params["jaxpr"].jaxpr.eqns if e.primitive.name == "conv_general_dilated"]
  # One convolution of all frames' inputs; within the loop only the state's channels are convolved.
  assert [equation.invars[0].aval.shape[0] for equation in outside] == [BATCH * STEPS]
  assert {equation.invars[1].aval.shape[2] for equation in inside} == READ_INSIDE.get(name, {FEATURES})


def test_bfloat16_states_with_float32_motion():
  unit = TSRU(FEATURES, dtype=jnp.bfloat16)
  states, motion = _run(unit)
  assert states.dtype == jnp.bfloat16
  assert motion.dtype == jnp.float32
  np.testing.assert_allclose(states.astype(np.float32), _tsru_loop()[0], rtol=0.1, atol=0.1)


def _gate(w, name, *inputs):
  return _conv(np.concatenate(inputs, axis=-1), w[f"kernel_{name}"]) + w[f"bias_{name}"]


def _conv_lstm_step(w, h, x, rho):
  """Shi et al. 2015 without peepholes; hidden state and memory side by side (F.3)."""
  hidden, memory = h[..., : FEATURES // 2], h[..., FEATURES // 2 :]
  i, f, o = (_sigmoid(_gate(w, name, hidden, x)) for name in "ifo")
  memory = f * memory + i * rho(_gate(w, "g", hidden, x))
  return np.concatenate([o * rho(memory), memory], axis=-1)


def _traj_gru_step(w, h, x):
  warped = _warp(h, _motion_kernels(w, np.concatenate([h, x], axis=-1)))  # eqs. 16, 17
  r, u = (_sigmoid(_gate(w, name, warped, x)) for name in "ru")  # eqs. 18, 21
  return u * h + (1 - u) * np.tanh(_gate(w, "c", r * warped, x))  # eqs. 19, 20, 22


def _tsru_c_step(w, h, x):
  warped = _warp(h, _motion_kernels(w, np.concatenate([h, x], axis=-1)))  # eqs. 6, 7
  c, u = _relu(_gate(w, "c", warped, x)), _sigmoid(_gate(w, "u", h, x))  # eqs. 8, 9
  return u * warped + (1 - u) * c  # eq. 10


def _tsru_s_step(w, h, x):
  warped = _warp(h, _motion_kernels(w, np.concatenate([h, x], axis=-1)))
  c = _relu(_gate(w, "c", warped, x))
  u = _sigmoid(_gate(w, "u", warped, c))  # 3.2.2: in the place of eq. 9
  return u * warped + (1 - u) * c


def _ptsru_s_step(w, h, x):
  theta = _relu(_gate(w, "hidden", _relu(_gate(w, "theta", h, x))))  # F.1: two hidden layers, at full resolution
  warped = _warp(h, _softmax(_gate(w, "taps", theta), axis=-1))
  c = _relu(_gate(w, "c", warped, x))
  u = _sigmoid(_gate(w, "u", warped, c))
  return u * warped + (1 - u) * c


STEPS_BY_EQUATIONS = {
  "conv_lstm": functools.partial(_conv_lstm_step, rho=_relu),
  "conv_lstm_tanh": functools.partial(_conv_lstm_step, rho=np.tanh),
  "k_traj_gru": _traj_gru_step,
  "tsru_c": _tsru_c_step,
  "tsru_s": _tsru_s_step,
  "ptsru_s": _ptsru_s_step,
}


@pytest.mark.parametrize("name", STEPS_BY_EQUATIONS)
def test_units_against_their_equations(name):
  unit_type = RECURRENT_UNITS[name]
  w, (x, h) = _weights(unit_type), _inputs()
  states = []
  for t in range(STEPS):
    h = STEPS_BY_EQUATIONS[name](w, h, x[:, t])
    states.append(h)
  np.testing.assert_allclose(_run(unit_type(FEATURES))[0], np.stack(states, axis=1), rtol=1e-4, atol=1e-4)


def _pooled(x: np.ndarray) -> np.ndarray:
  """[H, W, n] to [4, 4, n], adaptive max-pooling."""
  out = np.zeros((4, 4, x.shape[-1]))
  for i, j in np.ndindex(4, 4):
    rows = slice(i * HEIGHT // 4, -(-(i + 1) * HEIGHT // 4))
    columns = slice(j * WIDTH // 4, -(-(j + 1) * WIDTH // 4))
    out[i, j] = x[rows, columns].max(axis=(0, 1))
  return out


def _predicted_kernels(w, current, previous):
  """The kernel CNN of F.4 on every pair of channels: for the hidden state and x, [3, 3, in, out] by gate."""
  half, sets = current.shape[-1], 3
  logits = np.zeros((sets, 4, 9, half, half))  # set, gate, tap, input channel, output channel
  for i, j in np.ndindex(half, half):
    difference = (current[..., i] - previous[..., j])[None, ..., None]
    theta = _pooled(_relu(_conv(difference, w["kernel_features"]) + w["bias_features"])[0])
    hidden = _relu(theta.reshape(-1) @ w["kernel_hidden"] + w["bias_hidden"])
    logits[..., i, j] = (hidden @ w["kernel_taps"] + w["bias_taps"]).reshape(sets, 4, 9)
  of_hidden = _softmax(logits[0], axis=2)
  of_x = _softmax(np.concatenate([logits[1], logits[2]], axis=2), axis=2)
  return [[kernel.reshape(3, 3, *kernel.shape[1:]) for kernel in part] for part in (of_hidden, of_x)]


def test_dynamic_conv_lstm_against_its_equations():
  unit_type, half, inputs = RECURRENT_UNITS["dynamic_conv_lstm"], FEATURES // 2, FEATURES
  rng = np.random.default_rng(3)
  x = rng.normal(size=(BATCH, STEPS, HEIGHT, WIDTH, inputs)).astype(np.float32)
  h = rng.normal(size=(BATCH, HEIGHT, WIDTH, FEATURES)).astype(np.float32)
  unit = unit_type(FEATURES, spectral_norm=False)
  options = {"num_steps": STEPS, "train": False}
  shapes = jax.eval_shape(functools.partial(unit.init, **options), jax.random.key(0), x, h)["params"]
  w = {name: rng.normal(size=shape.shape) for name, shape in shapes.items()}
  params = {name: value.astype(np.float32) for name, value in w.items()}
  found = jax.jit(functools.partial(unit.apply, **options))({"params": params}, x, h)
  previous, states = h[..., :half], []
  for t in range(STEPS):
    new = np.zeros_like(h, np.float64)
    for b in range(BATCH):
      # q = 2: one set of kernels for the hidden state, two for x.
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
  np.testing.assert_allclose(found, np.stack(states, axis=1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["tsru_c", "tsru_p", "tsru_s", "ptsru_s"])
def test_a_unit_that_looks_straight_down_copies_its_state(name):
  """All weight on the central tap, and the gate u = 1: nothing new, nothing moved."""
  unit_type, (x, h) = RECURRENT_UNITS[name], _inputs()
  params = {key: np.zeros_like(value) for key, value in _variables(unit_type)["params"].items()}
  params["bias_u"] += 100.0
  if name == "ptsru_s":
    params["bias_taps"][4] = 200.0
  else:
    # The basis is a [tap, kernel] matrix: all nine kernels look at the central tap.
    params["bias_basis"].reshape(9, 9)[4] = 200.0
  unit = unit_type(FEATURES, spectral_norm=False)
  states = jax.jit(functools.partial(unit.apply, num_steps=STEPS, train=False))({"params": params}, x, h)
  np.testing.assert_allclose(states, np.repeat(h[:, None], STEPS, axis=1), rtol=1e-6)
