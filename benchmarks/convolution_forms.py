"""Times every form of `vidgen_jax.nn.convolution.convolve` for the shapes that train steps use, on this device.

The shapes are read from the losses of experiments: 3-D kernels first, then by FLOPs, in turns over the experiments. Of
shapes that differ in their batch only, the largest is measured. A kernel of one frame has no stacked form. Times are
medians over rounds in which all forms take turns.
"""

import functools
import itertools
import math
import runpy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from absl import flags
from jax import lax
from jax.extend import core as jex_core

from benchmarks.script import run_script
from tests.parity.timing import alternating_medians
from vidgen_jax.bench.measurements import Report, describe
from vidgen_jax.commands.flag_parsing import find_experiment
from vidgen_jax.errors import UserError
from vidgen_jax.nn.convolution import Form, convolve
from vidgen_jax.runs.config import ExperimentConfig, from_config_dict
from vidgen_jax.runs.experiment import build_experiment

DTYPES, PROGRAMS = ("bfloat16", "float32"), ("forward", "gradients")
"""'gradients' computes the output and the gradients of both operands."""

_CALLS, _ROUNDS = 3, 5


class Shape(NamedTuple):
  """Arguments of `convolve`: shapes of the video [B, T, H, W, C] and of the kernel [kt, kh, kw, in, out], window."""

  video: tuple[int, ...]
  kernel: tuple[int, ...]
  strides: tuple[int, ...]
  pads: tuple[tuple[int, int], ...]

  @property
  def output(self) -> tuple[int, ...]:
    """Shape of the result [B, T', H', W', out]."""
    sizes = zip(self.video[1:4], self.kernel[:3], self.strides, self.pads, strict=True)
    lengths = ((length + sum(pad) - taps) // stride + 1 for length, taps, stride, pad in sizes)
    return (self.video[0], *lengths, self.kernel[4])

  @property
  def flops(self) -> int:
    """FLOPs of the result; products with padding count."""
    return 2 * math.prod(self.output) * math.prod(self.kernel[:4])


def used_shapes(config: ExperimentConfig) -> list[Shape]:
  """The convolutions in the losses of a train step; those with 3-D kernels first, then the most expensive ones."""
  experiment = build_experiment(config)
  nets, key = experiment.abstract_state.nets, experiment.abstract_state.key
  batch = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in experiment.batch_shape().items()}
  key, step = jax.ShapeDtypeStruct(key.shape, key.dtype), jax.ShapeDtypeStruct((), jnp.int32)
  largest: dict[tuple, Shape] = {}
  for update in experiment.updates:
    loss = jax.make_jaxpr(update.loss_fn)(nets, experiment.frozen_nets, batch, key, step)
    for shape in _convolutions(loss.jaxpr):
      same = (shape.video[1:], *shape[1:])
      largest[same] = max(shape, largest.get(same, shape))
  return sorted(largest.values(), key=lambda shape: (shape.kernel[0] == 1, -shape.flops, shape))


def _convolutions(jaxpr: Any, *, native: bool = False) -> Iterator[Shape]:
  """The convolutions of a program; `native`: whether it is the native form of a call of `convolve`."""
  for equation in jaxpr.eqns:
    p = equation.params
    if p.get("branches_platforms"):
      # None stands for the platforms without a branch of their own; they use the native form.
      yield from _convolutions(p["branches"][p["branches_platforms"].index(None)].jaxpr, native=True)
    elif native and "lhs_dilation" in p:
      video, kernel = (atom.aval.shape for atom in equation.invars)
      order = ("NHWC", "HWIO", "NHWC") if len(video) == 4 else ("NTHWC", "THWIO", "NTHWC")
      # Others compute the gradients inside of a gradient penalty.
      if p["dimension_numbers"] in (order, lax.conv_dimension_numbers(video, kernel, order)):
        strides, pads = tuple(p["window_strides"]), tuple(map(tuple, p["padding"]))
        if len(video) == 4:  # frames
          video, kernel, strides, pads = (video[0], 1, *video[1:]), (1, *kernel), (1, *strides), ((0, 0), *pads)
        yield Shape(video, kernel, strides, pads)
    else:
      for sub in jex_core.jaxprs_in_params(p):
        yield from _convolutions(sub, native=native)


def measure(shape: Shape, dtype: str) -> list[dict[str, Any]]:
  """Times all forms, each forward and with gradients.

  Returns:
    A row per program: the shape, 'gflop' of the forward pass, 'ms' by form, the 'fastest' form, and in 'errors' why a
    form has no time.
  """
  keys = jax.random.split(jax.random.key(0), 3)
  shapes = (shape.video, shape.kernel, shape.output)
  operands = [jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True)]
  forms = [form for form in get_args(Form) if form != "stacked" or shape.kernel[0] > 1]
  described = {name: "x".join(map(str, getattr(shape, name))) for name in ("video", "kernel", "strides")}
  rows = []
  for program in PROGRAMS:
    with ThreadPoolExecutor(len(forms)) as pool:
      calls = dict(zip(forms, pool.map(functools.partial(_compile, shape, program, operands), forms), strict=True))
    errors = {form: call for form, call in calls.items() if isinstance(call, str)}
    seconds = alternating_medians({form: call for form, call in calls.items() if not isinstance(call, str)}, _ROUNDS)
    times = {form: 1e3 * value / _CALLS for form, value in seconds.items()}
    row = {**described, "pads": shape.pads, "dtype": dtype, "program": program, "gflop": shape.flops / 1e9}
    rows.append({**row, "ms": times, "fastest": min(times, key=times.__getitem__, default=None), "errors": errors})
  return rows


def _compile(shape: Shape, program: str, operands: Sequence[jax.Array], form: Form) -> Callable[[], list] | str:
  """A function that starts the compiled program `_CALLS` times, or the error."""
  forward = functools.partial(convolve, strides=shape.strides, padding=shape.pads, form=form)

  def gradients(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
    y, pullback = jax.vjp(forward, x, kernel)
    return (y, *pullback(cotangent))

  function, inputs = (forward, operands[:2]) if program == "forward" else (gradients, operands)
  try:
    compiled = jax.jit(function).lower(*inputs).compile()
    jax.block_until_ready(compiled(*inputs))
  except jax.errors.JaxRuntimeError as error:  # The patches of a large video may exceed the memory.
    return str(error).splitlines()[0]
  return lambda: [compiled(*inputs) for _ in range(_CALLS)]


def _define_flags(flag_values: flags.FlagValues) -> None:
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_list("configs", None, "experiments, each FILE.py:VARIANT", required=True, **values)
  text = "start no shape after this time; shapes that are left out are counted in the head of the report"
  flags.DEFINE_float("seconds", 600.0, text, lower_bound=0.0, **values)


def report(flag_values: flags.FlagValues) -> Report:
  """Measures with the settings of the flags."""
  deadline = time.perf_counter() + flag_values.seconds
  shapes = []
  for name in flag_values.configs:
    file, _, variant = name.partition(":")
    if not variant:
      raise UserError(f"--configs: {name!r} must be written as FILE.py:VARIANT")
    shapes.append(used_shapes(from_config_dict(runpy.run_path(find_experiment(file))["get_config"](variant))))
  turns = dict.fromkeys(shape for turn in itertools.zip_longest(*shapes) for shape in turn if shape)
  tasks, rows = list(itertools.product(DTYPES, turns)), []
  for number, (dtype, shape) in enumerate(tasks):
    if number and time.perf_counter() > deadline:
      break
    rows += measure(shape, dtype)
  measured = f"{len(rows) // len(PROGRAMS)} of {len(tasks)}"
  head = describe(",".join(flag_values.configs), calls=_CALLS, rounds=_ROUNDS, shapes_and_dtypes_measured=measured)
  return Report(head=head, rows=rows, text="".join(f"{_line(row)}\n" for row in rows))


def _line(row: dict[str, Any]) -> str:
  times = ", ".join(f"{form} {value:.3f} ms" for form, value in row["ms"].items())
  shape = f"{row['video']} * {row['kernel']} / {row['strides']}"
  return f"{shape} {row['dtype']} {row['program']}: {times}; fastest: {row['fastest']}"


if __name__ == "__main__":
  run_script(_define_flags, report)
