"""Compares warping by shifted multiply-adds with a gather of all neighbourhoods (TrIVD-GAN-FP, eqs. 11 and 12)."""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import lax

from benchmarks.script import parse_shape, run_script
from vidgen_jax.bench.measurements import Measurement, Report, describe
from vidgen_jax.ops.warp import combine_kernels, warp

Warp = Callable[[jax.Array, jax.Array], jax.Array]
KINDS = ("pixelwise", "factorised")
"""Kernels W_t are inputs, or are mixed from k*k kernels of each clip (eq. 12)."""


Key = tuple[str, str, str]
"""(method, kind, 'forward' or 'gradients')."""


def gather_warp(features: jax.Array, weights: jax.Array) -> jax.Array:
  """Eq. 11 of TrIVD-GAN-FP as it is often written: gathers all neighbourhoods, then weights them.

  Args:
    features: h, [B, H, W, C].
    weights: W, [B, H, W, k*k] with odd k.

  Returns:
    [B, H, W, C], equal to `warp`; the intermediate array is [B, H, W, k*k, C].
  """
  size = round(weights.shape[-1] ** 0.5)
  radius = size // 2
  _, height, width, _ = features.shape
  padded = jnp.pad(features, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
  m, n = np.divmod(np.arange(size * size), size)
  rows = np.arange(height)[:, None, None] + m
  columns = np.arange(width)[None, :, None] + n
  return jnp.einsum("bhwq,bhwqc->bhwc", weights.astype(features.dtype), padded[:, rows, columns])


METHODS: Mapping[str, Warp] = {"shifted": warp, "gathered": gather_warp}
"""The compared implementations, by name."""


def time_warps(
  shape: tuple[int, int, int, int, int], *, size: int, repeats: int
) -> dict[Key, tuple[float, int | None]]:
  """Times recurrences h_t = warp(h_{t-1}, W_t); all methods take turns on the same noise.

  Args:
    shape: (B, T, H, W, C): clips, warps in the recurrence, height, width and channels of the state.
    size: k, odd.
    repeats: number of timed runs of each, at least 1.

  Returns:
    (median seconds, bytes that XLA plans for intermediate results or None if unknown) of the last state ('forward') and
    of the gradients of the first state and all kernels ('gradients'), by method, kind and program.
  """
  inputs = _noise(shape, size=size)
  programs: dict[Key, jax.stages.Compiled] = {}
  for kind, (method, function) in itertools.product(KINDS, METHODS.items()):
    states = functools.partial(_last_state, function=function, kind=kind)
    gradients = jax.grad(lambda *arguments, states=states: jnp.sum(jnp.square(states(*arguments))), argnums=(0, 1))
    programs[method, kind, "forward"] = jax.jit(states).lower(*inputs[kind]).compile()
    programs[method, kind, "gradients"] = jax.jit(gradients).lower(*inputs[kind]).compile()
  seconds: dict[Key, list[float]] = {key: [] for key in programs}
  for turn in range(1 + repeats):
    for key, program in programs.items():
      start = time.perf_counter()
      jax.block_until_ready(program(*inputs[key[1]]))
      if turn:  # The first turn warms up.
        seconds[key].append(time.perf_counter() - start)
  return {key: (statistics.median(seconds[key]), _planned(program)) for key, program in programs.items()}


def measurements(timings: Mapping[Key, tuple[float, int | None]]) -> list[Measurement]:
  """The results of `time_warps`, and their ratios with the goal that the gather is not better."""
  result = []
  for (method, kind, program), (seconds, memory) in timings.items():
    name = f"{method}, {kind}: {program}"
    result.append(Measurement(name=name, value=1e3 * seconds, unit="ms"))
    result.append(Measurement(name=f"{name}, memory", value=None if memory is None else memory / 2**20, unit="MiB"))
  for kind, program, index in itertools.product(KINDS, ("forward", "gradients"), (0, 1)):
    ours, theirs = (timings[method, kind, program][index] for method in METHODS)
    ratio = ours / theirs if ours is not None and theirs else None
    name = f"shifted / gathered, {kind}: {program}{', memory' if index else ''}"
    result.append(Measurement(name=name, value=ratio, at_most=1.0))
  return result


def _noise(shape: tuple[int, int, int, int, int], *, size: int) -> dict[str, tuple[jax.Array, tuple[jax.Array, ...]]]:
  """(first state, kernels of all steps), by kind."""
  batch, steps, height, width, channels = shape
  keys = jax.random.split(jax.random.key(0), 4)
  taps = size * size
  state = jax.random.normal(keys[0], (batch, height, width, channels))
  weights = jax.nn.softmax(jax.random.normal(keys[1], (steps, batch, height, width, taps)))
  basis = jax.nn.softmax(jax.random.normal(keys[2], (steps, batch, taps, taps)), axis=2)
  selection = jax.nn.softmax(jax.random.normal(keys[3], (steps, batch, height, width, taps)))
  return {"pixelwise": (state, (weights,)), "factorised": (state, (basis, selection))}


def _last_state(state: jax.Array, kernels: tuple[jax.Array, ...], *, function: Warp, kind: str) -> jax.Array:
  def step(state: jax.Array, kernels: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
    return function(state, combine_kernels(*kernels) if kind == "factorised" else kernels[0]), None

  return lax.scan(step, state, kernels)[0]


def _planned(program: jax.stages.Compiled) -> int | None:
  analysis = program.memory_analysis()
  return None if analysis is None else analysis.temp_size_in_bytes


def _define_flags(flag_values: flags.FlagValues) -> None:
  flags.DEFINE_string("state", "8x32x32x64", "batch x height x width x channels", flag_values=flag_values)
  flags.DEFINE_integer("steps", 12, "warps in the recurrence", lower_bound=1, flag_values=flag_values)


def report(flag_values: flags.FlagValues) -> Report:
  """Measures with the settings of the flags."""
  batch, height, width, channels = parse_shape("state", flag_values.state, "8x32x32x64")
  figures = measurements(time_warps((batch, flag_values.steps, height, width, channels), size=3, repeats=10))
  return Report.of(describe("warp", state=flag_values.state, steps=flag_values.steps), figures)


if __name__ == "__main__":
  run_script(_define_flags, report)
