"""`vidgen bench`: time, FLOPs and memory of a train step, and whether the loop and the pipeline keep up with it."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
from absl import flags, logging

from vidgen_jax.bench import collectives, profile, scaling
from vidgen_jax.bench.compilation import Compilation, compile_twice, executed_flops, peak_memory
from vidgen_jax.bench.cost_estimate import estimate, flops_figures, needed_flops, total_flops
from vidgen_jax.bench.flops import traced_flops
from vidgen_jax.bench.measurements import Measurement, Report, describe, head_text, table_text, write_report
from vidgen_jax.bench.settings import PEAKS, WINDOWS, published_peak
from vidgen_jax.bench.step_timing import StepTiming, noise, time_steps, timed_steps
from vidgen_jax.commands.flag_parsing import define_config, integers, values_of
from vidgen_jax.data.throughput import measure_clips_per_second
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.runs.config import ExperimentConfig, from_config_dict
from vidgen_jax.runs.data_checks import check_training
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.loop import train_iterator

PROFILED_MODULES = 10
"""Number of modules that --profile lists."""

SUMMARY = """Measures a train step, and the loop and the data pipeline against it.

Needs --config, and the data set named by config.data.name (or --no_data). Trains from new weights in a temporary
folder, without images, scores and checkpoints. Compiles twice, without and with a compilation cache of its own.
  --no_loop        leaves out the loop. --steps=1 then times a single step after one warm-up step, for steps that take
                   minutes. The figures of the whole run are computed from the bare step.
  --profile        lists the modules that take most of the time of a step, from a trace of --steps steps, and leaves out
                   all other figures. Operations that overlap count in full.
  --estimate       runs nothing: counts the FLOPs of a step and of the run, and the hours of one chip of --device_kind
                   at an assumed utilisation, --mfu.
  --collectives=8,64,512
                   runs nothing: compiles the step for 8, 64 and 512 fake devices, and reports what they exchange in a
                   step, for which purpose, and the memory of each; --config.mesh.fsdp=8 splits the state. TPU
                   topologies such as v5p:2x2x2,v5p:4x4x4 give the TPU's program; they need libtpu, but no TPU.
  --scaling=8,64,512
                   runs nothing: predicts the step time on 8, 64 and 512 chips of --device_kind at --mfu, from FLOPs,
                   the traffic of a program for 8 fake devices, and published bandwidths. A model, not a measurement.
Tables of the papers and comparisons with other libraries are scripts in benchmarks/ of the repository.
Example: vidgen bench --config=trivd_shape_motion.py:cpu --steps=40 --out=bench.jsonl
         vidgen bench --config=trivd_shape_motion.py:cpu --profile
         vidgen bench --config=trivd_kinetics600.py:paper --estimate --device_kind="TPU v3" --mfu=0.3
         vidgen bench --config=trivd_kinetics600.py:paper --collectives=8,64,512
         vidgen bench --config=trivd_kinetics600.py:paper --scaling=8,64,512 --device_kind="TPU v5p" --mfu=0.4"""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  values: dict[str, Any] = {"flag_values": flag_values}
  define_config(flag_values)
  flags.DEFINE_integer("steps", 20, "steps to time, of the bare step and of the loop", **values)
  flags.DEFINE_integer("first_step", 0, "completed steps, which choose the phase", **values)
  flags.DEFINE_float("peak_tflops", None, "peak of one device, for MFU; known for some kinds", **values)
  flags.DEFINE_string("out", None, "file for the figures, one JSON object per line", **values)
  flags.DEFINE_bool("no_data", False, "train on noise and leave out the pipeline", **values)
  flags.DEFINE_bool("no_loop", False, "time the bare step alone", **values)
  flags.DEFINE_bool("profile", False, "only list the modules that take most of a step's time", **values)
  flags.DEFINE_bool("estimate", False, "run nothing: FLOPs and chip-hours", **values)
  flags.DEFINE_enum(
    "device_kind", "TPU v3", [peak.name for peak in PEAKS], "--estimate, --scaling: accelerator", **values
  )
  flags.DEFINE_float("mfu", 0.3, "--estimate, --scaling: assumed share of the chip's peak, 0 to 1", **values)
  flags.DEFINE_list("collectives", None, "run nothing: traffic for numbers of devices or TPU topologies", **values)
  flags.DEFINE_list("scaling", None, "run nothing: predicted step time on numbers of chips", **values)
  flags.mark_flag_as_required("config", **values)


def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  _check_flags(flag_values)
  out = check_writable(flag_values.out, "--out")
  enable_compilation_cache()
  config = from_config_dict(flag_values.config)
  counted = flag_values.estimate or flag_values.collectives is not None or flag_values.scaling is not None
  if not (counted or flag_values.no_data):
    check_training(config, validates=False)
  if flag_values.collectives is not None:
    report = _report_collectives(config, flag_values.collectives, first_step=flag_values.first_step)
  elif flag_values.scaling is not None:
    counts = integers("scaling", flag_values.scaling)
    settings = values_of(flag_values, "device_kind", "mfu", "first_step")
    report = _name_default(scaling.predict(config, counts, **settings), flag_values)
  elif flag_values.estimate:
    settings = values_of(flag_values, "device_kind", "mfu")
    figures = estimate(config, first_step=flag_values.first_step, **settings)
    report = Report.of({"experiment": config.name, "jax": jax.__version__, **settings}, figures)
    report = _name_default(report, flag_values)
  elif flag_values.profile:
    figures = _profile(config, flag_values)
    report = Report.of(describe(config.name, steps=flag_values.steps), figures)
  else:
    figures = _bench(config, flag_values)
    report = Report.of(describe(config.name, steps=flag_values.steps), figures)
  write_report(report, out)


def _name_default(report: Report, flag_values: flags.FlagValues) -> Report:
  """The report, which names the accelerator if it was not chosen."""
  if flag_values["device_kind"].present:
    return report
  named = f"--device_kind is not set, so these are figures of a {flag_values.device_kind}.\n"
  return dataclasses.replace(report, text=named + report.text)


def _check_flags(flag_values: flags.FlagValues) -> None:
  modes = {name: values_of(flag_values, name)[name] is not None for name in ("collectives", "scaling")}
  modes |= values_of(flag_values, "estimate", "profile")
  if sum(modes.values()) > 1:
    raise UserError(f"{' and '.join(f'--{name}' for name, on in modes.items() if on)} exclude each other")
  at_least = 1 if flag_values.no_loop or flag_values.profile else WINDOWS
  if flag_values.steps < at_least:
    hint = "" if at_least == 1 else "; --no_loop times the bare step alone, even a single one"
    raise UserError(f"--steps={flag_values.steps} must be at least {at_least}{hint}")
  if flag_values.peak_tflops is not None and not flag_values.peak_tflops > 0:
    raise UserError(f"--peak_tflops={flag_values.peak_tflops} must be positive")


def _report_collectives(config: ExperimentConfig, names: list[str], *, first_step: int) -> Report:
  rows, texts = [], []
  for name, devices in collectives.fake_devices(names).items():
    experiment = build_experiment(config, devices=list(devices))
    figures = collectives.measure(experiment, experiment.algorithm.phase_at(first_step))
    head = collectives.describe_step(experiment, name)
    rows += [{**head, **figure.as_row()} for figure in figures]
    texts.append(f"{head_text(head)}\n{table_text(figures)}")
  return Report(head={"experiment": config.name, "jax": jax.__version__}, rows=rows, text="\n".join(texts))


def _profile(config: ExperimentConfig, flag_values: flags.FlagValues) -> list[Measurement]:
  steps, first_step = flag_values.steps, flag_values.first_step
  experiment = build_experiment(config)
  batch = noise(experiment) if flag_values.no_data else next(train_iterator(experiment))
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
  return profile.profile_figures(times, count=PROFILED_MODULES)


def _bench(config: ExperimentConfig, flag_values: flags.FlagValues) -> list[Measurement]:
  steps, first_step, use_data = flag_values.steps, flag_values.first_step, not flag_values.no_data
  experiment = build_experiment(config)
  iterator = train_iterator(experiment) if use_data else itertools.repeat(noise(experiment))
  phase = experiment.algorithm.phase_at(first_step)
  logging.info("counting FLOPs of phase %r", phase)
  needed = needed_flops(experiment, phase)
  logging.info("compiling")
  compilation = compile_twice(experiment, phase)
  logging.info("timing")
  state = experiment.init_state()
  if not flag_values.no_loop:
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
    _utilisation(total, timing.bare, flag_values.peak_tflops),
  ]
  if use_data:
    logging.info("reading data without training")
    delivered = measure_clips_per_second(train_iterator(experiment)) * jax.process_count()
    result += [
      Measurement(name="pipeline alone", value=delivered, unit="clips/s", note="without training"),
      Measurement(name="pipeline / step", value=delivered / clips_per_second, at_least=3.0),
    ]
  return result


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
