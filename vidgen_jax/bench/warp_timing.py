"""What warping by shifted multiply-adds costs, beside a gather of every position's neighbourhood."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.ops.warp import combine_kernels, warp

Warp = Callable[[jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True, kw_only=True)
class WarpTiming:
  """What a recurrence of warps takes.

  Attributes:
    forward: median seconds of the states alone.
    gradients: median seconds of the gradients for the first state and all kernels.
    forward_memory: bytes that XLA plans for intermediate results of the first; None where the backend does not tell.
    gradients_memory: the same of the second.
  """

  forward: float
  gradients: float
  forward_memory: int | None
  gradients_memory: int | None


def gather_warp(features: jax.Array, weights: jax.Array) -> jax.Array:
  """Eq. 11 of TrIVD-GAN-FP as it is often written: all neighbourhoods are gathered, then weighed. For comparison.

  Args:
    features: h, [B, H, W, C].
    weights: W, [B, H, W, k*k] with odd k.

  Returns:
    [B, H, W, C], what `warp` returns; it holds an array [B, H, W, k*k, C] on the way.
  """
  size = round(weights.shape[-1] ** 0.5)
  radius = size // 2
  _, height, width, _ = features.shape
  padded = jnp.pad(features, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
  m, n = np.divmod(np.arange(size * size), size)
  rows = np.arange(height)[:, None, None] + m
  columns = np.arange(width)[None, :, None] + n
  return jnp.einsum("bhwq,bhwqc->bhwc", weights.astype(features.dtype), padded[:, rows, columns])


def time_warps(shape: tuple[int, int, int, int, int], *, size: int, repeats: int) -> dict[str, WarpTiming]:
  """Times recurrences h_t = warp(h_{t-1}, W_t); all forms take turns on the same noise.

  Args:
    shape: (B, T, H, W, C): clips, warps in the recurrence, rows, columns and channels of the state.
    size: k, odd.
    repeats: how often each is timed, at least 1.

  Returns:
    By form: 'shifted' (`warp`) and 'gathered' (`gather_warp`), each 'pixelwise', with W_t given, and 'factorised', with
    W_t mixed from k*k kernels of a clip (eq. 12).
  """
  inputs = _noise(shape, size=size)
  forms = {
    f"{name}, {kind}": functools.partial(_states, function=function, kind=kind)
    for kind in ("pixelwise", "factorised")
    for name, function in (("shifted", warp), ("gathered", gather_warp))
  }
  compiled = {}
  for form, states in forms.items():
    loss = functools.partial(_loss, states=states)
    for what, function in (("forward", states), ("gradients", jax.grad(loss, argnums=(0, 1)))):
      compiled[form, what] = jax.jit(function).lower(*inputs[form.split(", ")[1]]).compile()
  seconds: dict[Any, list[float]] = {key: [] for key in compiled}
  for turn in range(1 + repeats):
    for (form, what), program in compiled.items():
      start = time.perf_counter()
      jax.block_until_ready(program(*inputs[form.split(", ")[1]]))
      if turn:  # the first warms up
        seconds[form, what].append(time.perf_counter() - start)
  return {
    form: WarpTiming(
      forward=statistics.median(seconds[form, "forward"]),
      gradients=statistics.median(seconds[form, "gradients"]),
      forward_memory=_planned(compiled[form, "forward"]),
      gradients_memory=_planned(compiled[form, "gradients"]),
    )
    for form in forms
  }


def measurements(timings: Mapping[str, WarpTiming]) -> list[Measurement]:
  """The figures of `time_warps` and their ratios; the goal is that no gather is better."""
  result = []
  units = {"forward": (1e3, "ms"), "gradients": (1e3, "ms"), "forward_memory": (2**-20, "MiB")}
  units["gradients_memory"] = units["forward_memory"]
  for form, timing in timings.items():
    for field, value in dataclasses.asdict(timing).items():
      factor, unit = units[field]
      name = f"{form}: {field.replace('_', ', ')}"
      result.append(Measurement(name=name, value=None if value is None else value * factor, unit=unit))
  for kind in ("pixelwise", "factorised"):
    ours, theirs = (dataclasses.asdict(timings[f"{name}, {kind}"]) for name in ("shifted", "gathered"))
    for field in units:
      known = ours[field] is not None and theirs[field]
      name = f"shifted / gathered, {kind}: {field.replace('_', ', ')}"
      result.append(Measurement(name=name, value=ours[field] / theirs[field] if known else None, at_most=1.0))
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


def _states(state: jax.Array, kernels: tuple[jax.Array, ...], *, function: Warp, kind: str) -> jax.Array:
  """The state after the last warp, [B, H, W, C]."""

  def step(state: jax.Array, kernels: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
    return function(state, combine_kernels(*kernels) if kind == "factorised" else kernels[0]), None

  return lax.scan(step, state, kernels)[0]


def _loss(state: jax.Array, kernels: tuple[jax.Array, ...], *, states: Callable[..., jax.Array]) -> jax.Array:
  return jnp.sum(jnp.square(states(state, kernels)))


def _planned(program: jax.stages.Compiled) -> int | None:
  """Bytes that XLA plans for intermediate results."""
  analysis = program.memory_analysis()
  return None if analysis is None else analysis.temp_size_in_bytes
