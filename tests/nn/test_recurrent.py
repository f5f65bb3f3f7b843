"""Recurrent units against numpy loops from the equations of TrIVD-GAN-FP (`tests/nn/unit_equations.py`).

Parameters are drawn with numpy for the shapes that a unit declares: initialisers do not run, and kernels are not
orthogonal, so that spectral normalisation matters.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn import unit_equations
from vidgen_jax.nn.recurrent import MOTION, RECURRENT_UNITS
from vidgen_jax.nn.recurrent.convolutional import ConvGRU
from vidgen_jax.nn.recurrent.tsru import TSRU
from vidgen_jax.nn.spectral import SPECTRAL_STATS
from vidgen_jax.ops import loops
from vidgen_jax.ops.convolution2d import convolution_p

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
  """(states, motion kernels or None) for the inputs of `_inputs`."""
  apply = functools.partial(unit.apply, num_steps=STEPS, train=False, mutable=[MOTION])
  states, changed = jax.jit(apply)(_variables(type(unit)), *_inputs(steps))
  return np.asarray(states), changed.get(MOTION, {}).get("kernels")


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


@pytest.mark.parametrize("name", unit_equations.STEPS)
def test_units_against_their_equations(name):
  unit_type = RECURRENT_UNITS[name]
  expected = unit_equations.run(name, _weights(unit_type), *_inputs())
  np.testing.assert_allclose(_run(unit_type(FEATURES))[0], expected, rtol=1e-4, atol=1e-4)


def _without_spectral_norm(name: str, *, scale: float):
  """(unit, random parameters, x, h); x has the channels that the dynamic ConvLSTM needs, q = 2."""
  unit = RECURRENT_UNITS[name](FEATURES, spectral_norm=False)
  rng = np.random.default_rng(3)
  x = rng.normal(size=(BATCH, STEPS, HEIGHT, WIDTH, FEATURES))
  h = rng.normal(size=(BATCH, HEIGHT, WIDTH, FEATURES))
  init = functools.partial(unit.init, num_steps=STEPS, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), x, h)["params"]
  return unit, {name: scale * rng.normal(size=shape.shape) for name, shape in shapes.items()}, x, h


def test_dynamic_conv_lstm_against_its_equations():
  unit, params, x, h = _without_spectral_norm("dynamic_conv_lstm", scale=1.0)
  found = jax.jit(functools.partial(unit.apply, num_steps=STEPS, train=False))({"params": params}, x, h)
  expected = unit_equations.run("dynamic_conv_lstm", params, x, h)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", RECURRENT_UNITS)
def test_gradients_against_differences_of_the_equations(name):
  """Along a random direction of each parameter, the inputs and the first state; float64 against float32."""
  unit, params, x, h = _without_spectral_norm(name, scale=0.4)
  rng = np.random.default_rng(4)
  seen = rng.normal(size=(BATCH, STEPS, HEIGHT, WIDTH, FEATURES))
  arrays, shapes, width = {**params, "x": x, "h": h}, set(params), 1e-6

  @jax.jit
  @jax.grad
  def gradients(arrays):
    params = {name: value for name, value in arrays.items() if name in shapes}
    states = unit.apply({"params": params}, arrays["x"], arrays["h"], num_steps=STEPS, train=False)
    return jnp.sum(seen * states)

  found = gradients({name: array.astype(np.float32) for name, array in arrays.items()})
  for changed, array in arrays.items():
    direction = rng.normal(size=array.shape)
    losses = []
    for sign in (1, -1):
      moved = arrays | {changed: array + sign * width * direction}
      weights = {name: moved[name] for name in shapes}
      losses.append(np.sum(seen * unit_equations.run(name, weights, moved["x"], moved["h"])))
    slope = (losses[0] - losses[1]) / (2 * width)
    scale = np.linalg.norm(direction) * np.linalg.norm(found[changed])
    assert scale > 0, changed
    np.testing.assert_allclose(np.sum(direction * found[changed]) / scale, slope / scale, atol=1e-4, err_msg=changed)


def test_motion_kernels_are_distributions_over_the_taps():
  motion = _run(TSRU(FEATURES))[1]
  assert motion.shape == (BATCH, STEPS, HEIGHT, WIDTH, 9)
  np.testing.assert_allclose(jnp.sum(motion, axis=-1), np.ones((BATCH, STEPS, HEIGHT, WIDTH)), rtol=1e-5)
  assert float(jnp.min(motion)) >= 0
  w, (x, h), expected = _weights(TSRU), _inputs(), []
  for t in range(STEPS):
    expected.append(unit_equations.motion_kernels(w, h, x[:, t]))
    h = unit_equations.STEPS["tsru_p"](w, h, x[:, t])
  np.testing.assert_allclose(motion, np.stack(expected, axis=1), rtol=1e-4, atol=1e-5)


def test_motion_is_stored_only_on_request():
  unit = TSRU(FEATURES)
  apply = functools.partial(unit.apply, num_steps=STEPS, train=True, mutable=[SPECTRAL_STATS])
  _, changed = jax.eval_shape(apply, _variables(TSRU), *_inputs())
  assert set(changed) == {SPECTRAL_STATS}
  assert _run(ConvGRU(FEATURES))[1] is None


@pytest.mark.parametrize("unit_type", RECURRENT_UNITS.values())
def test_unrolling_does_not_change_the_states(unit_type):
  scanned = _run(unit_type(FEATURES))
  with loops.unrolled():
    unrolled = _run(unit_type(FEATURES))
  np.testing.assert_allclose(unrolled[0], scanned[0], rtol=1e-5, atol=1e-6)
  if unit_type is TSRU:
    np.testing.assert_allclose(unrolled[1], scanned[1], rtol=1e-5, atol=1e-6)


def test_rematerialisation_does_not_change_gradients():
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
def test_a_constant_input_equals_a_repeated_input(unit_type):
  x, state = _inputs(1)
  unit = unit_type(FEATURES)
  apply = jax.jit(functools.partial(unit.apply, num_steps=STEPS, train=False))
  variables = _variables(unit_type)
  repeated = apply(variables, np.repeat(x, STEPS, axis=1), state)
  np.testing.assert_allclose(apply(variables, x, state), repeated, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit_type", RECURRENT_UNITS.values())
def test_inputs_for_some_of_the_steps_are_rejected(unit_type):
  with pytest.raises(ValueError, match="1 or 3 steps, got 2"):
    unit_type(FEATURES).apply(_variables(unit_type), *_inputs(2), num_steps=STEPS, train=False)


# Input channels of convolutions in the recurrence: those of the state, half of them for the LSTM's hidden state, and
# the hidden layers of ptsru_s. The dynamic LSTM convolves pairs of channels outside.
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
  outside = [equation for equation in jaxpr.eqns if equation.primitive is convolution_p]
  inside = [e for e in loop.params["jaxpr"].jaxpr.eqns if e.primitive is convolution_p]
  # One convolution of the inputs of all frames; in the loop only channels of the state are convolved.
  assert [equation.invars[0].aval.shape[0] for equation in outside] == [BATCH * STEPS]
  assert {equation.invars[1].aval.shape[2] for equation in inside} == READ_INSIDE.get(name, {FEATURES})


def test_bfloat16_states_with_float32_motion():
  unit = TSRU(FEATURES, dtype=jnp.bfloat16)
  states, motion = _run(unit)
  assert states.dtype == jnp.bfloat16
  assert motion.dtype == jnp.float32
  np.testing.assert_allclose(
    states.astype(np.float32), unit_equations.run("tsru_p", _weights(TSRU), *_inputs()), rtol=0.1, atol=0.1
  )


@pytest.mark.parametrize("name", ["tsru_c", "tsru_p", "tsru_s", "ptsru_s"])
def test_kernels_on_the_central_tap_copy_the_state(name):
  """All weight on the central tap, and the gate u = 1: no new content, no motion."""
  unit_type, (x, h) = RECURRENT_UNITS[name], _inputs()
  params = {key: np.zeros_like(value) for key, value in _variables(unit_type)["params"].items()}
  params["bias_u"] += 100.0
  if name == "ptsru_s":
    params["bias_taps"][4] = 200.0
  else:
    # The basis is a [tap, kernel] matrix; all nine kernels select the central tap.
    params["bias_basis"].reshape(9, 9)[4] = 200.0
  unit = unit_type(FEATURES, spectral_norm=False)
  states = jax.jit(functools.partial(unit.apply, num_steps=STEPS, train=False))({"params": params}, x, h)
  np.testing.assert_allclose(states, np.repeat(h[:, None], STEPS, axis=1), rtol=1e-6)
