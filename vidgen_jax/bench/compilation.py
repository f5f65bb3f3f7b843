"""What compiling a train step costs, and what XLA knows of the result: FLOPs and memory."""

import contextlib
import dataclasses
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from vidgen_jax.bench.flops import Jaxpr, loops_over_products
from vidgen_jax.runs import experiment as experiments
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import Experiment

# Products that XLA hands to a library are opaque to its cost analysis.
_LIBRARY_CALL = re.compile(r'custom_call_target="__(cudnn|cublas|onednn)')


@dataclass(frozen=True, kw_only=True)
class Compilation:
  """A compiled train step and how long it took, in seconds.

  Attributes:
    program: the step as JAX traced it.
    step: the executable.
    lowering: tracing and lowering to XLA's input.
    cold: XLA's compilation, with nothing in the cache.
    cached: the same with its result in the cache; None if the backend puts nothing there.
  """

  program: Jaxpr
  step: Any
  lowering: float
  cold: float
  cached: float | None


def trace_step(experiment: Experiment, phase: str) -> jax.stages.Traced:
  """The train step of a phase, traced anew for abstract arguments; nothing of an earlier compilation is reused."""
  arguments = (experiment.abstract_state, experiment.batch_shape(), experiment.step_constants(0, phase))
  return experiment.step_fn(phase).trace(*arguments)


def compile_twice(experiment: Experiment, phase: str) -> Compilation:
  """Compiles the train step of a phase without a cache, and again from one. The user's cache is left alone."""
  seconds = []
  with own_compilation_cache() as folder:
    for _ in range(2):
      start = time.perf_counter()
      traced = trace_step(experiment, phase)
      lowered = traced.lower()
      middle = time.perf_counter()
      compiled = lowered.compile()
      seconds.append((middle - start, time.perf_counter() - middle))
      if not any(folder.iterdir()):
        break
  (lowering, cold), *again = seconds
  cached = again[0][1] if again else None
  return Compilation(program=traced.jaxpr.jaxpr, step=compiled, lowering=lowering, cold=cold, cached=cached)


@contextlib.contextmanager
def own_compilation_cache() -> Iterator[Path]:
  """An empty compilation cache for a while, which keeps programs however fast they compile."""
  names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
  before = {name: getattr(jax.config, name) for name in names}
  with tempfile.TemporaryDirectory() as folder:
    try:
      for name, value in zip(names, (folder, 0.0), strict=True):
        jax.config.update(name, value)
      compilation_cache.reset_cache()
      yield Path(folder)
    finally:
      for name, value in before.items():
        jax.config.update(name, value)
      compilation_cache.reset_cache()


def executed_flops(experiment: Experiment, phase: str, compilation: Compilation) -> tuple[float | None, str]:
  """XLA's own count of all operations of a train step, elementwise ones too, over all devices.

  XLA counts a loop's body once and knows nothing of what a library does. A step that has either is counted in another
  form: with its loops unrolled, and before XLA optimises it.

  Args:
    experiment: whose step it is.
    phase: of the step.
    compilation: of the step.

  Returns:
    (FLOPs, what they were counted in); None instead of the FLOPs, and why, if there is no honest count.
  """
  if not loops_over_products(compilation.program):
    count = _cost(compilation.step)
    if count and not _LIBRARY_CALL.search(compilation.step.as_text()):
      return count * experiment.mesh.size, "the compiled program"
  unrolled = experiments.build(_unrolled(experiment.config), devices=list(experiment.mesh.devices.flat))
  traced = trace_step(unrolled, phase)
  if loops_over_products(traced.jaxpr.jaxpr):
    return None, "the step has loops that cannot be unrolled"
  return _cost(traced.lower()), "the unrolled program before XLA's optimisation"


def _unrolled(config: ExperimentConfig) -> ExperimentConfig:
  algorithm = config.algorithm
  if "unroll" in {field.name for field in dataclasses.fields(algorithm)}:
    algorithm = dataclasses.replace(algorithm, unroll=True)
  return dataclasses.replace(config, algorithm=algorithm, step=dataclasses.replace(config.step, unroll=True))


def _cost(stage: Any) -> float | None:
  analysis = stage.cost_analysis()
  return analysis.get("flops") if analysis else None


def peak_memory(compiled: Any) -> tuple[int | None, str]:
  """Bytes that one device needs at most, and how that is known; None if the backend does not tell.

  Args:
    compiled: a program that has run.
  """
  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"], "one device's peak so far"
  return planned_memory(compiled)


def planned_memory(compiled: Any) -> tuple[int | None, str]:
  """As `peak_memory`, but what XLA planned for this program alone, whatever else has run on the device."""
  analysis = compiled.memory_analysis()
  if analysis is None:
    return None, "this backend does not tell"
  # Outputs that alias donated arguments take no room of their own.
  own_outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  total = analysis.argument_size_in_bytes + own_outputs + analysis.temp_size_in_bytes
  return total, "arguments, outputs and temporaries, as planned by XLA"
