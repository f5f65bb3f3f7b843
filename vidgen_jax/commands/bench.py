"""`vidgen bench`: what a train step costs, and whether the loop and the pipeline keep up with it."""

import dataclasses
import itertools
import re
import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags, logging
from ml_collections import config_flags

from vidgen_jax.bench import collectives, tables, warp_timing
from vidgen_jax.bench import flops as counting
from vidgen_jax.bench.compilation import Compilation, compile_twice, executed_flops, peak_memory
from vidgen_jax.bench.cost_estimate import estimate
from vidgen_jax.bench.device_peaks import PEAKS, published_peak
from vidgen_jax.bench.extraction_timing import random_weights, time_extraction
from vidgen_jax.bench.measurements import Measurement, describe, table, write_rows
from vidgen_jax.bench.paper_tables import TABLES
from vidgen_jax.bench.step_flops import flops_figures, needed_flops, total_flops
from vidgen_jax.bench.step_timing import WINDOWS, StepTiming, noise, time_bare_steps, time_steps
from vidgen_jax.data.throughput import measure_clips_per_second
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.parallel import startup
from vidgen_jax.runs import config as configs
from vidgen_jax.runs import experiment as experiments
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.loop import train_iterator
from vidgen_jax.scores.networks import NETWORKS

SUMMARY = """Measures a train step, the loop and the pipeline against it; or a feature network.

Needs --config, and the data set that config.data.name names (or --no_data). Trains from fresh weights in a temporary
folder, without images, scores and checkpoints; compiles once without and once from a compilation cache of its own.
  --no_loop        leaves the loop out; with --steps=1 one step warms up and one is timed, so that a step of minutes can
                   be measured. The figures of the whole run then come from the bare step.
  --estimate       runs nothing: counts the FLOPs of a step and of the run, and gives the hours of one chip of
                   --device_kind at the utilisation --mfu, which is an assumption.
  --collectives=8,64,512
                   runs nothing: compiles the step for so many devices, which are made up, and tells what they exchange
                   in a step, for what, and what each holds; --config.mesh.fsdp=8 splits the state. TPU topologies such
                   as v5p:2x2x2,v5p:4x4x4 in place of numbers give the TPU's own program; they need libtpu, but no TPU.
  --table=decompositions, --table=units, --table=mvt
                   Table 1 of TrIVD-GAN-FP on this machine: a row for every choice of config.algorithm.decomposition (with
                   K = 1 and config.algorithm.frames_per_clip for MoCoGAN-like) or of config.algorithm.recurrent_unit,
                   all else as --config says. Rows take turns, on noise. The paper's step (E.3) is at
                   --config.train.batch_size=8 on one device. --rows=faster,dvd_gan_fp chooses; dynamic_conv_lstm, about
                   twenty times as dear as others, must be named.
  --warp           times warping (TrIVD-GAN-FP, eqs. 11 and 12) by shifted multiply-adds against a gather of every
                   position's neighbourhood: a recurrence of --steps states, batch x height x width x channels.
  --network        clips a second of a feature network with random weights, and its memory for few and many clips.
Example: vidgen bench --config=experiments/trivd_shape_motion.py:cpu --steps=40 --out=bench.jsonl
         vidgen bench --config=experiments/trivd_kinetics600.py:paper --estimate --device_kind="TPU v3" --mfu=0.3
         vidgen bench --config=experiments/trivd_kinetics600.py:paper --collectives=8,64,512
         vidgen bench --config=experiments/trivd_shape_motion.py:cpu --table=decompositions --out=table.jsonl
         vidgen bench --warp=8x32x32x64 --steps=12
         vidgen bench --network=i3d --clip=16x64x64x3 --clips=64 --feature_batch=4"""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  config_flags.DEFINE_config_file(
    "config", None, "experiments/FILE.py:VARIANT; override fields with --config.FIELD=VALUE", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "steps", 20, "steps to time, of the bare step and of the loop each; or of each row", flag_values=flag_values
  )
  flags.DEFINE_integer("first_step", 0, "completed steps before: chooses the phase", flag_values=flag_values)
  flags.DEFINE_float("peak_tflops", None, "peak of one device, for MFU; known for some kinds", flag_values=flag_values)
  flags.DEFINE_string("out", None, "file for the figures, one JSON object a line", flag_values=flag_values)
  flags.DEFINE_bool("no_data", False, "trains on noise and leaves the pipeline out", flag_values=flag_values)
  flags.DEFINE_bool("no_loop", False, "times the bare step alone: for steps of minutes", flag_values=flag_values)
  flags.DEFINE_enum("table", None, list(TABLES), "compares rows on this machine", flag_values=flag_values)
  flags.DEFINE_list("rows", [], "--table: those to compare; all by default", flag_values=flag_values)
  flags.DEFINE_bool("estimate", False, "runs nothing: FLOPs, and chip-hours for them", flag_values=flag_values)
  flags.DEFINE_enum(
    "device_kind", "TPU v3", [peak.name for peak in PEAKS], "--estimate: the chip", flag_values=flag_values
  )
  flags.DEFINE_list(
    "collectives", None, "numbers of devices, or TPU topologies: what they exchange", flag_values=flag_values
  )
  flags.DEFINE_float("mfu", 0.3, "--estimate: assumed share of the chip's peak, 0 to 1", flag_values=flag_values)
  flags.DEFINE_string(
    "warp", None, "in place of --config: the state to warp, batch x height x width x channels", flag_values=flag_values
  )
  flags.DEFINE_enum("network", None, list(NETWORKS), "feature network, in place of --config", flag_values=flag_values)
  flags.DEFINE_integer("width", None, "--network, r3d18 or tsn: channels of its first stage", flag_values=flag_values)
  flags.DEFINE_string("clip", "16x64x64x3", "--network: frames x height x width x channels", flag_values=flag_values)
  flags.DEFINE_integer("clips", 64, "--network: how many", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer("feature_batch", 4, "--network: clips at a time", lower_bound=1, flag_values=flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  _check_flags(flag_values)
  out = Path(flag_values.out) if flag_values.out else None
  if out:
    check_writable(out, "--out")
  startup.enable_compilation_cache()
  measure = next((mode for flag, mode in _MODES.items() if flag_values[flag].value is not None), _bench_experiment)
  head, rows, text = measure(flag_values)
  sys.stdout.write(f"{', '.join(f'{k} {v}' for k, v in head.items())}\n\n{text}")
  if out:
    write_rows(out, [head, *rows])


Report = tuple[dict[str, Any], list[dict[str, Any]], str]
"""What was measured and on what; the figures for a file; the same for people."""


def _check_flags(flag_values: flags.FlagValues) -> None:
  if sum(flag_values[name].value is not None for name in ("config", "network", "warp")) != 1:
    raise UserError("give either --config of an experiment or --network, a feature network, or --warp, a state's shape")
  modes = [f"--{name}" for name in ("network", "warp", "table", "collectives", "estimate") if flag_values[name].value]
  if len(modes) > 1:
    raise UserError(f"{' and '.join(modes)} do not go together")
  if flag_values.rows and not flag_values.table:
    raise UserError("--rows needs --table")
  least = 1 if flag_values.no_loop or flag_values.table or flag_values.warp else WINDOWS
  if flag_values.steps < least:
    hint = "" if least == 1 else "; --no_loop times the bare step alone, even a single one"
    raise UserError(f"--steps={flag_values.steps} must be at least {least}{hint}")
  if flag_values.peak_tflops is not None and not flag_values.peak_tflops > 0:
    raise UserError(f"--peak_tflops={flag_values.peak_tflops} must be positive")


def _bench_experiment(flag_values: flags.FlagValues) -> Report:
  config = configs.from_config_dict(flag_values.config)
  if flag_values.estimate:
    settings = {"device_kind": flag_values.device_kind, "mfu": flag_values.mfu}
    measurements = estimate(config, first_step=flag_values.first_step, **settings)
    head = {"experiment": config.name, "jax": jax.__version__, **settings}
  else:
    measurements = bench(
      config,
      steps=flag_values.steps,
      first_step=flag_values.first_step,
      peak_flops=flag_values.peak_tflops * 1e12 if flag_values.peak_tflops else None,
      use_data=not flag_values.no_data,
      run_loop=not flag_values.no_loop,
    )
    head = describe(config.name, steps=flag_values.steps)
  return head, [m.as_row() for m in measurements], table(measurements)


def _bench_table(flag_values: flags.FlagValues) -> Report:
  config = configs.from_config_dict(flag_values.config)
  compared = TABLES[flag_values.table]()
  figures = tables.measure(config, compared, rows=flag_values.rows, steps=flag_values.steps)
  goals = tables.goals(compared, figures)
  head = describe(config.name, table=flag_values.table, batch=config.train.batch_size, steps=flag_values.steps)
  text = tables.layout(compared, figures, batch_size=config.train.batch_size)
  rows = [dataclasses.asdict(row) for row in figures] + [goal.as_row() for goal in goals]
  return head, rows, f"{text}\n{table(goals)}" if goals else text


def _bench_collectives(flag_values: flags.FlagValues) -> Report:
  """What devices that are not at hand exchange in a train step."""
  config = configs.from_config_dict(flag_values.config)
  rows, texts = [], []
  for name, devices in collectives.fake_devices(flag_values.collectives).items():
    fitting = collectives.fit(config, len(devices))
    figures = collectives.measure(fitting, devices, first_step=flag_values.first_step)
    head = {"devices": name, "batch": fitting.train.batch_size, "fsdp": config.mesh.fsdp}
    rows += [{**head, **figure.as_row()} for figure in figures]
    texts.append(f"{', '.join(f'{k} {v}' for k, v in head.items())}\n{table(figures)}")
  return {"experiment": config.name, "jax": jax.__version__}, rows, "\n".join(texts)


def bench(
  config: ExperimentConfig,
  *,
  steps: int = 20,
  first_step: int = 0,
  peak_flops: float | None = None,
  use_data: bool = True,
  run_loop: bool = True,
) -> list[Measurement]:
  """Measures an experiment's train step on this machine.

  Args:
    config: of the experiment.
    steps: how many steps to time, of the bare step and of the loop each; without the loop one will do.
    first_step: completed train steps, which choose the phase.
    peak_flops: FLOP/s of one device, for the utilisation; None looks the device up in `PEAKS`.
    use_data: False replaces the data set by noise, and leaves the pipeline out.
    run_loop: False times the bare step alone.

  Returns:
    The figures, in the order of the table.

  Raises:
    UserError: if config, data or devices do not fit.
  """
  experiment = experiments.build(config)
  iterator = train_iterator(experiment) if use_data else itertools.repeat(noise(experiment))
  phase = experiment.algorithm.phase_at(first_step)
  logging.info("counting FLOPs of phase %r", phase)
  needed = needed_flops(experiment, phase)
  logging.info("compiling")
  compilation = compile_twice(experiment, phase)
  logging.info("timing")
  state = experiment.init_state()
  if run_loop:
    timing = time_steps(experiment, compilation.step, state, iterator, steps=steps, first_step=first_step)
  else:
    batch = experiment.put_batch(next(iterator), microbatches=True)
    constants = experiment.step_constants(first_step, phase)
    timing = time_bare_steps(compilation.step, state, batch, constants, steps=steps)
  clips_per_second = experiment.clips_per_step(phase) / timing.bare
  logging.info("counting what was compiled")
  executed, how = executed_flops(experiment, phase, compilation)
  traced = counting.traced_flops(compilation.program)
  result = _time_figures(timing, clips_per_second)
  result += _whole_run_figures(timing.loop or timing.bare, config.train.num_steps, devices=experiment.mesh.size)
  result += _compilation_figures(compilation)
  result += flops_figures(needed)
  result += _compiled_figures(total_flops(needed), executed, how, traced)
  result.append(_utilisation(total_flops(needed), timing.bare, peak_flops))
  if use_data:
    logging.info("reading data alone")
    delivered = measure_clips_per_second(train_iterator(experiment)) * jax.process_count()
    result += [
      Measurement(name="pipeline alone", value=delivered, unit="clips/s", note="without training beside it"),
      Measurement(name="pipeline / step", value=delivered / clips_per_second, at_least=3.0),
    ]
  return result


def _time_figures(timing: StepTiming, clips_per_second: float) -> list[Measurement]:
  result = [
    Measurement(name="step, median", value=1e3 * timing.bare, unit="ms", note="batch on the devices, no loop"),
    Measurement(name="step, fastest", value=1e3 * timing.fastest, unit="ms"),
    Measurement(name="clips consumed", value=clips_per_second, unit="clips/s", note="real ones, by the median step"),
  ]
  if timing.loop is None:
    return result
  return [
    *result,
    Measurement(name="loop, median", value=1e3 * timing.loop, unit="ms", note="input, metrics and hooks included"),
    Measurement(name="loop / step", value=timing.loop / timing.bare, at_most=1.03, note="see also --no_data"),
  ]


def _whole_run_figures(seconds: float, num_steps: int, *, devices: int) -> list[Measurement]:
  """What all steps of a run take at this speed; `seconds` are those of one step."""
  hours = seconds * num_steps / 3600
  note = "all steps like these; scores, images and checkpoints come on top"
  return [
    Measurement(name=f"whole run ({num_steps:,} steps)", value=hours / 24, unit="days", note=note),
    Measurement(name="whole run, all devices", value=hours * devices, unit="device-hours", note="hours times devices"),
  ]


def _compilation_figures(compilation: Compilation) -> list[Measurement]:
  note = "" if compilation.cached is not None else "this backend keeps no compiled programs"
  peak, how = peak_memory(compilation.step)
  return [
    Measurement(name="tracing and lowering", value=compilation.lowering, unit="s"),
    Measurement(name="compilation, cold", value=compilation.cold, unit="s"),
    Measurement(name="compilation, from cache", value=compilation.cached, unit="s", note=note),
    Measurement(name="peak memory", value=peak and peak / 2**20, unit="MiB", note=how),
  ]


def _compiled_figures(total: int, executed: float | None, how: str, traced: int) -> list[Measurement]:
  return [
    Measurement(name="FLOPs of traced products", value=traced / 1e9, unit="GFLOP", note="with JAX's gradients"),
    Measurement(name="FLOPs as compiled", value=executed and executed / 1e9, unit="GFLOP", note=how),
    Measurement(
      name="compiled / layer shapes",
      value=executed / total if executed else None,
      at_most=1.15,
      note="all operations, also elementwise",
    ),
  ]


def _utilisation(needed: float, seconds: float, peak: float | None) -> Measurement:
  kind = jax.devices()[0].device_kind
  peak = peak or published_peak(kind)
  if peak is None:
    return Measurement(name="MFU", value=None, unit="%", note=f"no peak known for {kind!r}: give --peak_tflops")
  value = 100 * needed / (seconds * peak * jax.device_count())
  return Measurement(name="MFU", value=value, unit="%", note=f"of {peak / 1e12:g} TFLOP/s a device")


def _bench_warp(flag_values: flags.FlagValues) -> Report:
  """Warping by shifted multiply-adds and by a gather."""
  match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", flag_values.warp)
  if match is None:
    raise UserError(f"--warp={flag_values.warp} must be written as 8x32x32x64: batch, height, width, channels")
  batch, *state = map(int, match.groups())
  timings = warp_timing.time_warps((batch, flag_values.steps, *state), size=3, repeats=10)
  figures = warp_timing.measurements(timings)
  head = describe("warp", state=flag_values.warp, steps=flag_values.steps)
  return head, [m.as_row() for m in figures], table(figures)


def _bench_network(flag_values: flags.FlagValues) -> Report:
  """Speed and memory of a feature network with random weights."""
  match = re.fullmatch(r"(\d+)x(\d+)x(\d+)x(1|3)", flag_values.clip)
  if match is None:
    raise UserError(f"--clip={flag_values.clip} must be written as 16x64x64x3: frames, height, width, channels")
  clip_shape, network = tuple(map(int, match.groups())), flag_values.network
  settings = {"num_classes": {"i3d": 400, "c3d": 101}.get(network, 101)}
  settings |= {} if flag_values.width is None else {"width": flag_values.width}
  try:
    weights = random_weights(network, settings, clip_shape)
  except (TypeError, ValueError) as error:
    raise UserError(f"--network={network} cannot be made for --clip={flag_values.clip}: {error}") from error
  timing = time_extraction(
    weights, clip_shape=clip_shape, num_clips=flag_values.clips, batch_size=flag_values.feature_batch
  )
  times = timing.num_clips / timing.few_clips
  measurements = [
    Measurement(name="clips", value=timing.clips_per_second, unit="clips/s", note="from host memory to features"),
    Measurement(name="first batch", value=timing.compilation, unit="s", note="with compilation"),
    Measurement(name="peak memory, few clips", value=timing.peak_few / 2**20, unit="MiB", note="of the process"),
    Measurement(name="peak memory, all clips", value=timing.peak_all / 2**20, unit="MiB", note=f"{timing.num_clips}"),
    Measurement(
      name="all / few", value=timing.peak_all / timing.peak_few, at_most=1.1, note=f"{times:.3g} times as many clips"
    ),
  ]
  head = describe(network, clip=flag_values.clip, batch=flag_values.feature_batch)
  return head, [m.as_row() for m in measurements], table(measurements)


_MODES = {"table": _bench_table, "collectives": _bench_collectives, "network": _bench_network, "warp": _bench_warp}
"""What to measure by the flag that asks for it; an experiment without any of them."""
