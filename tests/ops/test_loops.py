"""Rolled and unrolled scans against sums by hand."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops import loops


def _body(carry, inputs):
  carry = carry + inputs["a"]
  return carry, {"sum": carry, "twice": 2 * inputs["a"], "nothing": None}


@pytest.mark.parametrize("context", [contextlib.nullcontext, loops.unrolled])
@pytest.mark.parametrize("length", [1, 3])
def test_carry_and_outputs(context, length):
  inputs = {"a": jnp.array([1.0, 10.0, 100.0])[:length]}
  with context():
    carry, outputs = loops.scan(_body, jnp.float32(0.5), inputs, length=length)
  sums = np.array([1.5, 11.5, 111.5])[:length]
  assert float(carry) == sums[-1]
  np.testing.assert_array_equal(outputs["sum"], sums)
  np.testing.assert_array_equal(outputs["twice"], np.array([2.0, 20.0, 200.0])[:length])
  assert outputs["nothing"] is None


@pytest.mark.parametrize("context", [contextlib.nullcontext, loops.unrolled])
def test_no_inputs(context):
  with context():
    carry, outputs = loops.scan(lambda c, _: (2 * c, c), jnp.float32(1.0), None, length=3)
  assert float(carry) == 8.0
  np.testing.assert_array_equal(outputs, [1.0, 2.0, 4.0])


@pytest.mark.parametrize(
  ("context", "length", "loop"),
  [(contextlib.nullcontext, 3, True), (loops.unrolled, 3, False), (contextlib.nullcontext, 1, False)],
)
def test_only_a_rolled_loop_of_several_steps_is_a_loop(context, length, loop):
  def run(x):
    return loops.scan(lambda c, x: (c + x, None), 0.0, x, length=length)[0]

  with context():
    primitives = {equation.primitive.name for equation in jax.make_jaxpr(run)(jnp.zeros(length)).jaxpr.eqns}
  assert ("scan" in primitives) == loop
