"""Compilation times of a train step, and the FLOPs and memory that XLA reports."""

import contextlib
import dataclasses
import re
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from vidgen_jax.bench.flops import Jaxpr, loops_over_products
from vidgen_jax.core.state import NetState
from vidgen_jax.core.step import StepConstants
from vidgen_jax.ops import loops
from vidgen_jax.parallel.mesh import replicated
from vidgen_jax.runs.experiment import Experiment

# XLA's cost analysis does not see inside library calls.
_LIBRARY_CALL = re.compile(r'custom_call_target="__(cudnn|cublas|onednn)')


@dataclass(frozen=True, kw_only=True)
class Compilation:
  """A compiled train step and the seconds that it took.

  Attributes:
    program: traced step.
    step: executable.
    lowering: seconds of tracing and lowering to XLA's input.
    cold: seconds of XLA's compilation with an empty cache.
    cached: seconds of the compilation from the cache; None if the backend does not cache.
  """

  program: Jaxpr
  step: Any
  lowering: float
  cold: float
  cached: float | None


def trace_step(experiment: Experiment, phase: str) -> jax.stages.Traced:
  """Traces the train step of a phase for devices that need not exist, without reusing an earlier trace."""
  step: Any = experiment.step_fn(phase)
  return step.trace(experiment.abstract_state, experiment.batch_shape(), _abstract_constants(experiment, phase))


def _abstract_constants(experiment: Experiment, phase: str) -> StepConstants:
  """Shapes of `Experiment.step_constants`, for devices that do not exist."""
  whole = replicated(experiment.mesh)

  def shaped(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=whole)

  frozen: dict[str, Any] = {}
  for name, weights in experiment.frozen_weights.items():
    variables = jax.tree.map(shaped, dict(weights.variables))
    frozen[name] = NetState(params=variables.pop("params"), variables=variables)
  rates: dict[str, Any] = {update.name: shaped(jnp.float32(0)) for update in experiment.algorithm.updates(phase)}
  return StepConstants(learning_rates=rates, frozen=frozen)


def compile_twice(experiment: Experiment, phase: str) -> Compilation:
  """Compiles the train step of a phase with an empty cache, and from the cache; leaves the user's cache alone."""
  with own_compilation_cache() as folder:
    first = _compile(experiment, phase)
    if not any(folder.iterdir()):  # This backend does not cache.
      return first
    second = _compile(experiment, phase)
  return dataclasses.replace(second, lowering=first.lowering, cold=first.cold, cached=second.cold)


def _compile(experiment: Experiment, phase: str) -> Compilation:
  start = time.perf_counter()
  traced = trace_step(experiment, phase)
  lowered = traced.lower()
  lowering = time.perf_counter() - start
  step = lowered.compile()
  cold = time.perf_counter() - start - lowering
  return Compilation(program=traced.jaxpr.jaxpr, step=step, lowering=lowering, cold=cold, cached=None)


@contextlib.contextmanager
def own_compilation_cache() -> Generator[Path]:
  """Replaces the compilation cache by an empty temporary one, which also keeps programs that compile quickly."""
  with tempfile.TemporaryDirectory() as folder:
    settings = {"jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in settings}
    try:
      for name, value in settings.items():
        jax.config.update(name, value)
      compilation_cache.reset_cache()
      yield Path(folder)
    finally:
      for name, value in before.items():
        jax.config.update(name, value)
      compilation_cache.reset_cache()


def executed_flops(experiment: Experiment, phase: str, compilation: Compilation) -> tuple[float | None, str]:
  """XLA's count of all operations of a train step, also elementwise ones, over all devices.

  XLA counts a loop's body once and library calls not at all. A step with either is counted with its loops unrolled,
  before XLA optimises it.

  Returns:
    (FLOPs, the program that was counted); or (None, the reason) if there is no valid count.
  """
  if not loops_over_products(compilation.program):
    count = _cost(compilation.step)
    if count and not _LIBRARY_CALL.search(compilation.step.as_text()):
      return count * experiment.mesh.size, "the compiled program"
  with loops.unrolled():
    traced = trace_step(experiment, phase)
  if loops_over_products(traced.jaxpr.jaxpr):
    return None, "the step has loops that cannot be unrolled"
  count = _cost(traced.lower())  # Of one device: losses are computed under `shard_map`.
  return count and count * experiment.mesh.size, "the unrolled program before XLA's optimisation"


def _cost(stage: Any) -> float | None:
  analysis = stage.cost_analysis()
  return analysis.get("flops") if analysis else None


def peak_memory(compiled: Any) -> tuple[int | None, str]:
  """(peak bytes of one device, how they were obtained) for a program that has run; None if the backend reports none."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"], "one device's peak so far"
  return planned_memory(compiled)


def planned_memory(compiled: Any) -> tuple[int | None, str]:
  """As `peak_memory`, but only what XLA planned for this program, which need not have run."""
  analysis = compiled.memory_analysis()
  if analysis is None:
    return None, "not reported by this backend"
  # Outputs that alias donated arguments need no memory of their own.
  own_outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  total = analysis.argument_size_in_bytes + own_outputs + analysis.temp_size_in_bytes
  return total, "arguments, outputs and temporaries, as planned by XLA"
