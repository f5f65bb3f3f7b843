"""The reports of `vidgen bench`."""

import functools
import itertools
from collections.abc import Sequence

import jax
from absl import logging

from vidgen_jax.bench import collectives, profile
from vidgen_jax.bench.compilation import Compilation, compile_twice, executed_flops, peak_memory
from vidgen_jax.bench.cost_estimate import estimate, flops_figures, needed_flops, total_flops
from vidgen_jax.bench.flops import traced_flops
from vidgen_jax.bench.measurements import Measurement, Report, describe, head_text, table_text
from vidgen_jax.bench.settings import published_peak
from vidgen_jax.bench.step_timing import StepTiming, noise, time_steps, timed_steps
from vidgen_jax.data.throughput import measure_clips_per_second
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.loop import train_iterator

PROFILED_MODULES = 10
"""Number of modules that a profile lists."""


def report_estimate(config: ExperimentConfig, *, device_kind: str, mfu: float, first_step: int) -> Report:
  """FLOPs and chip-hours of a run; arguments and errors are those of `estimate`."""
  settings = {"device_kind": device_kind, "mfu": mfu}
  head = {"experiment": config.name, "jax": jax.__version__, **settings}
  return Report.of(head, estimate(config, device_kind=device_kind, mfu=mfu, first_step=first_step))


def report_collectives(config: ExperimentConfig, names: Sequence[str], *, first_step: int) -> Report:
  """What devices exchange in a step, for numbers of fake devices or TPU topologies."""
  rows, texts = [], []
  for name, devices in collectives.fake_devices(names).items():
    experiment = build_experiment(config, devices=list(devices))
    figures = collectives.measure(experiment, experiment.algorithm.phase_at(first_step))
    head = collectives.describe_step(experiment, name)
    rows += [{**head, **figure.as_row()} for figure in figures]
    texts.append(f"{head_text(head)}\n{table_text(figures)}")
  return Report(head={"experiment": config.name, "jax": jax.__version__}, rows=rows, text="\n".join(texts))


def report_profile(config: ExperimentConfig, *, steps: int, first_step: int, no_data: bool) -> Report:
  """The modules that take most of the time of a step; options as in `report_step`."""
  experiment = build_experiment(config)
  batch = noise(experiment) if no_data else next(train_iterator(experiment))
  phase = experiment.algorithm.phase_at(first_step)
  logging.info("compiling")
  compiled = experiment.compile_step(phase)
  batch, constants = experiment.put_batch(batch, microbatches=True), experiment.step_constants(first_step, phase)
  state, _ = timed_steps(compiled, experiment.init_state(), batch, constants, 1)
  logging.info("tracing")
  times = profile.scope_times(
    functools.partial(timed_steps, compiled, state, batch, constants, steps),
    compiled.as_text(),
    runs=1 + steps,
    devices=len(experiment.mesh.local_devices),
  )
  figures = profile.profile_figures(times, count=PROFILED_MODULES)
  return Report.of(describe(config.name, steps=steps), figures)


def report_step(
  config: ExperimentConfig, *, steps: int, first_step: int, no_data: bool, no_loop: bool, peak_tflops: float | None
) -> Report:
  """Times, compilation, FLOPs and memory of a train step, and the speed of the loop and the pipeline.

  The options are the flags of `vidgen bench`.
  """
  experiment = build_experiment(config)
  iterator = itertools.repeat(noise(experiment)) if no_data else train_iterator(experiment)
  phase = experiment.algorithm.phase_at(first_step)
  logging.info("counting FLOPs of phase %r", phase)
  needed = needed_flops(experiment, phase)
  logging.info("compiling")
  compilation = compile_twice(experiment, phase)
  logging.info("timing")
  state = experiment.init_state()
  if not no_loop:
    timing = time_steps(experiment, compilation.step, state, iterator, steps=steps, first_step=first_step)
  else:
    batch = experiment.put_batch(next(iterator), microbatches=True)
    constants = experiment.step_constants(first_step, phase)
    timing = StepTiming.from_seconds(timed_steps(compilation.step, state, batch, constants, steps)[1])
  clips_per_second = experiment.clips_per_step(phase) / timing.bare
  num_steps, devices = config.train.num_steps, experiment.mesh.size
  hours = (timing.loop or timing.bare) * num_steps / 3600
  alike = "all steps alike; without scores, images and checkpoints"
  logging.info("counting FLOPs of the compiled program")
  executed, how = executed_flops(experiment, phase, compilation)
  total, traced = total_flops(needed), traced_flops(compilation.program)
  result = [
    *_time_figures(timing, clips_per_second),
    Measurement(name=f"whole run ({num_steps:,} steps)", value=hours / 24, unit="days", note=alike),
    Measurement(name="whole run, all devices", value=hours * devices, unit="device-hours", note="hours times devices"),
    *_compilation_figures(compilation),
    *flops_figures(needed),
    Measurement(name="FLOPs of traced products", value=traced / 1e9, unit="GFLOP", note="with JAX's gradients"),
    Measurement(name="FLOPs as compiled", value=executed and executed / 1e9, unit="GFLOP", note=how),
    Measurement(
      name="compiled / layer shapes",
      value=executed / total if executed else None,
      at_most=1.15,
      note="all operations, also elementwise",
    ),
    _utilisation(total, timing.bare, peak_tflops),
  ]
  if not no_data:
    logging.info("reading data without training")
    delivered = measure_clips_per_second(train_iterator(experiment)) * jax.process_count()
    result += [
      Measurement(name="pipeline alone", value=delivered, unit="clips/s", note="without training"),
      Measurement(name="pipeline / step", value=delivered / clips_per_second, at_least=3.0),
    ]
  return Report.of(describe(config.name, steps=steps), result)


def _time_figures(timing: StepTiming, clips_per_second: float) -> list[Measurement]:
  result = [
    Measurement(name="step, median", value=1e3 * timing.bare, unit="ms", note="batch on the devices, no loop"),
    Measurement(name="step, fastest", value=1e3 * timing.fastest, unit="ms"),
    Measurement(name="clips consumed", value=clips_per_second, unit="clips/s", note="real clips, by the median step"),
  ]
  if timing.loop is not None:
    result += [
      Measurement(name="loop, median", value=1e3 * timing.loop, unit="ms", note="with input, metrics and hooks"),
      Measurement(name="loop / step", value=timing.loop / timing.bare, at_most=1.03, note="compare with --no_data"),
    ]
  return result


def _compilation_figures(compilation: Compilation) -> list[Measurement]:
  note = "" if compilation.cached is not None else "this backend does not cache compiled programs"
  peak, how = peak_memory(compilation.step)
  return [
    Measurement(name="tracing and lowering", value=compilation.lowering, unit="s"),
    Measurement(name="compilation, cold", value=compilation.cold, unit="s"),
    Measurement(name="compilation, from cache", value=compilation.cached, unit="s", note=note),
    Measurement(name="peak memory", value=peak and peak / 2**20, unit="MiB", note=how),
  ]


def _utilisation(needed: float, seconds: float, peak_tflops: float | None) -> Measurement:
  kind = jax.devices()[0].device_kind
  peak = 1e12 * peak_tflops if peak_tflops else published_peak(kind)
  if peak is None:
    return Measurement(name="MFU", value=None, unit="%", note=f"no peak known for {kind!r}: give --peak_tflops")
  value = 100 * needed / (seconds * peak * jax.device_count())
  return Measurement(name="MFU", value=value, unit="%", note=f"of {peak / 1e12:g} TFLOP/s per device")
