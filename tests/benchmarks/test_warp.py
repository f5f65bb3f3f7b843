"""The gather that warping is compared with, and the figures of the comparison."""

import itertools

import jax
import numpy as np
import pytest

from benchmarks.warp import KINDS, METHODS, gather_warp, measurements, time_warps
from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.ops.warp import warp


@pytest.mark.parametrize("size", [3, 5])
def test_gather_equals_warp(size):
  keys = jax.random.split(jax.random.key(size), 2)
  features = jax.random.normal(keys[0], (2, 5, 6, 3))
  weights = jax.random.normal(keys[1], (2, 5, 6, size * size))
  np.testing.assert_allclose(gather_warp(features, weights), warp(features, weights), rtol=1e-4, atol=1e-5)


def test_all_methods_are_timed_and_the_gather_needs_more_memory():
  found = time_warps((2, 6, 8, 8, 16), size=3, repeats=1)
  assert set(found) == set(itertools.product(METHODS, KINDS, ("forward", "gradients")))
  assert min(seconds for seconds, _ in found.values()) > 0
  neighbourhoods = 4 * 2 * 8 * 8 * 9 * 16
  for kind in KINDS:
    assert found["gathered", kind, "gradients"][1] > 6 * neighbourhoods  # of all six steps
    # The states, the kernels and their gradients, but no neighbourhoods.
    assert found["shifted", kind, "gradients"][1] < 3 * neighbourhoods
    assert found["shifted", kind, "forward"][1] < neighbourhoods


def test_figures_and_ratios():
  ours = {"forward": (0.002, 2**20), "gradients": (0.004, None)}
  theirs = {"forward": (0.004, 2**22), "gradients": (0.002, 2**20)}
  timings = {
    (method, kind, program): timing
    for kind in KINDS
    for method, timings in (("shifted", ours), ("gathered", theirs))
    for program, timing in timings.items()
  }
  found = {m.name: m for m in measurements(timings)}
  assert len(found) == 4 * 4 + 2 * 4
  assert found["shifted, pixelwise: forward"] == Measurement(name="shifted, pixelwise: forward", value=2.0, unit="ms")
  assert found["gathered, factorised: forward, memory"].value == 4.0
  ratio = "shifted / gathered, factorised"
  assert (found[f"{ratio}: forward"].value, found[f"{ratio}: forward"].met) == (0.5, True)
  assert (found[f"{ratio}: gradients"].value, found[f"{ratio}: gradients"].met) == (2.0, False)
  assert found[f"{ratio}: forward, memory"].value == 0.25
  assert found[f"{ratio}: gradients, memory"].value is None
