"""`vidgen bench`: what a train step costs, and whether the loop and the pipeline keep up with it."""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from ml_collections import config_flags

from vidgen_jax import config as configs
from vidgen_jax import experiment as experiments
from vidgen_jax import flops as counting
from vidgen_jax.compilation import Compilation, compile_twice, executed_flops, peak_memory
from vidgen_jax.config import ExperimentConfig
from vidgen_jax.core.state import Nets
from vidgen_jax.core.update import Update
from vidgen_jax.data.throughput import measure_clips_per_second
from vidgen_jax.errors import UserError
from vidgen_jax.experiment import Experiment
from vidgen_jax.extraction_timing import random_weights, time_extraction
from vidgen_jax.files import check_writable, disk_errors, written_whole
from vidgen_jax.models.classifiers import NETWORKS
from vidgen_jax.parallel import startup
from vidgen_jax.step_timing import WINDOWS, StepTiming, time_steps
from vidgen_jax.training_loop import train_iterator
from vidgen_jax.types import Batch

SUMMARY = """Measures a train step, the loop and the pipeline against it; or a feature network.

Needs --config, and the data set that config.data.name names (or --no_data). Trains from fresh weights in a temporary
folder, without pictures, scores and checkpoints; compiles once without and once from a compilation cache of its own.
With --network instead: clips a second of a feature network with random weights, and its memory for few and many clips.
Example: vidgen bench --config=experiments/trivd_shape_motion.py:cpu --steps=40 --out=bench.jsonl
         vidgen bench --network=i3d --clip=16x64x64x3 --clips=64 --feature_batch=4"""

PEAKS = (
  # NVIDIA's data sheets, tensor cores, without sparsity: H100 SXM and H200 SXM (1,979 with sparsity); A100.
  (r"NVIDIA H200|NVIDIA H100 80GB HBM3", 989e12),
  (r"NVIDIA A100.*", 312e12),
  # cloud.google.com/tpu/docs, the pages v4, v5e, v5p, v6e: peak compute per chip.
  (r"TPU v4", 275e12),
  (r"TPU v5 lite|TPU v5e", 197e12),
  (r"TPU v5|TPU v5p", 459e12),
  (r"TPU v6 lite|TPU v6e", 918e12),
)
"""Published peaks for dense bfloat16, in FLOP/s of one device, by a pattern of its whole kind."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  config_flags.DEFINE_config_file(
    "config", None, "experiments/FILE.py:VARIANT; override fields with --config.FIELD=VALUE", flag_values=flag_values
  )
  flags.DEFINE_integer("steps", 20, "steps to time, of the bare step and of the loop each", flag_values=flag_values)
  flags.DEFINE_integer("first_step", 0, "completed steps before: chooses the phase", flag_values=flag_values)
  flags.DEFINE_float("peak_tflops", None, "peak of one device, for MFU; known for some kinds", flag_values=flag_values)
  flags.DEFINE_string("out", None, "file for the figures, one JSON object a line", flag_values=flag_values)
  flags.DEFINE_bool("no_data", False, "trains on noise and leaves the pipeline out", flag_values=flag_values)
  flags.DEFINE_enum("network", None, list(NETWORKS), "feature network, in place of --config", flag_values=flag_values)
  flags.DEFINE_integer("width", None, "--network, r3d18 or tsn: channels of its first stage", flag_values=flag_values)
  flags.DEFINE_string("clip", "16x64x64x3", "--network: frames x height x width x channels", flag_values=flag_values)
  flags.DEFINE_integer("clips", 64, "--network: how many", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer("feature_batch", 4, "--network: clips at a time", lower_bound=1, flag_values=flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  if (flag_values.config is None) == (flag_values.network is None):
    raise UserError("give either --config of an experiment or --network, a feature network")
  if flag_values.steps < WINDOWS:
    raise UserError(f"--steps={flag_values.steps} must be at least {WINDOWS}")
  if flag_values.peak_tflops is not None and not flag_values.peak_tflops > 0:
    raise UserError(f"--peak_tflops={flag_values.peak_tflops} must be positive")
  if flag_values.out:
    check_writable(Path(flag_values.out), "--out")
  startup.enable_compilation_cache()
  if flag_values.network is not None:
    measurements = _bench_network(flag_values)
    head = describe(flag_values.network, clip=flag_values.clip, batch=flag_values.feature_batch)
  else:
    config = configs.from_config_dict(flag_values.config)
    measurements = bench(
      config,
      steps=flag_values.steps,
      first_step=flag_values.first_step,
      peak_flops=flag_values.peak_tflops * 1e12 if flag_values.peak_tflops else None,
      use_data=not flag_values.no_data,
    )
    head = describe(config.name, steps=flag_values.steps)
  sys.stdout.write(f"{', '.join(f'{k} {v}' for k, v in head.items())}\n\n{table(measurements)}")
  if flag_values.out:
    _write(Path(flag_values.out), [head, *(dataclasses.asdict(m) | {"met": m.met} for m in measurements)])


@dataclass(frozen=True, kw_only=True)
class Measurement:
  """One figure.

  Attributes:
    name: of the figure.
    value: in `unit`; None where this machine cannot tell, which `note` explains.
    unit: '' for ratios.
    at_most: the goal, if the value should not be above it.
    at_least: the goal, if the value should not be below it.
    note: how it was taken.
  """

  name: str
  value: float | None
  unit: str = ""
  at_most: float | None = None
  at_least: float | None = None
  note: str = ""

  @property
  def met(self) -> bool | None:
    """Whether the goal is met; None without a value or a goal."""
    if self.value is None or (self.at_most is None and self.at_least is None):
      return None
    return (self.at_most is None or self.value <= self.at_most) and (
      self.at_least is None or self.value >= self.at_least
    )


def bench(
  config: ExperimentConfig,
  *,
  steps: int = 20,
  first_step: int = 0,
  peak_flops: float | None = None,
  use_data: bool = True,
) -> list[Measurement]:
  """Measures an experiment's train step on this machine.

  Args:
    config: of the experiment.
    steps: how many steps to time, of the bare step and of the loop each.
    first_step: completed train steps, which choose the phase.
    peak_flops: FLOP/s of one device, for the utilisation; None looks the device up in `PEAKS`.
    use_data: False replaces the data set by noise, and leaves the pipeline out.

  Returns:
    The figures, in the order of the table.

  Raises:
    UserError: if config, data or devices do not fit.
  """
  experiment = experiments.build(config)
  iterator = train_iterator(experiment) if use_data else _noise(experiment)
  phase = experiment.algorithm.phase_at(first_step)
  logging.info("counting FLOPs of phase %r", phase)
  needed = needed_flops(experiment, phase)
  logging.info("compiling")
  compilation = compile_twice(experiment, phase)
  logging.info("timing")
  state = experiment.init_state()
  timing = time_steps(experiment, compilation.step, state, iterator, steps=steps, first_step=first_step)
  clips_per_second = experiment.clips_per_step(phase) / timing.bare
  logging.info("counting what was compiled")
  executed, how = executed_flops(experiment, phase, compilation)
  traced = counting.traced_flops(compilation.program)
  result = _time_figures(timing, clips_per_second)
  result += _whole_run_figures(timing.loop, config.train.num_steps, devices=experiment.mesh.size)
  result += _compilation_figures(compilation)
  result += _flops_figures(needed, executed, how, traced)
  result.append(_utilisation(sum(sum(parts.values()) for parts in needed.values()), timing.bare, peak_flops))
  if use_data:
    logging.info("reading data alone")
    delivered = measure_clips_per_second(train_iterator(experiment)) * jax.process_count()
    result += [
      Measurement(name="pipeline alone", value=delivered, unit="clips/s", note="without training beside it"),
      Measurement(name="pipeline / step", value=delivered / clips_per_second, at_least=3.0),
    ]
  return result


def needed_flops(experiment: Experiment, phase: str) -> dict[str, counting.Parts]:
  """FLOPs of a train step as counted from layer shapes, by update; see `vidgen_jax.flops`.

  Args:
    experiment: of which the shapes are taken; nothing is run.
    phase: of the train step.

  Returns:
    By name of the update, over all its repeats and accumulated parts.
  """
  state, step_config = experiment.abstract_state, experiment.config.step
  clips = experiment.config.train.batch_size // step_config.accumulate
  part = {name: jax.ShapeDtypeStruct((clips, *x.shape[2:]), x.dtype) for name, x in experiment.batch_shape().items()}
  data = (part, jax.ShapeDtypeStruct(state.key.shape, state.key.dtype), jax.ShapeDtypeStruct((), np.int32))
  result = {}
  for update in experiment.algorithm.updates(phase):
    params = {name: state.nets[name].params for name in update.trains}
    parts = counting.gradient_flops(_loss_of(update), params, state.nets, data)
    runs = update.repeats * step_config.accumulate
    result[update.name] = {kind: runs * count for kind, count in parts.items()}
  return result


def _loss_of(update: Update) -> Any:
  def loss(params: dict, nets: Nets, data: tuple[Batch, jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
    nets = nets | {name: nets[name].replace(params=value) for name, value in params.items()}
    return update.loss_fn(nets, {}, *data)

  return loss


def _noise(experiment: Experiment) -> Iterator[dict[str, np.ndarray]]:
  generator, share = np.random.default_rng(0), jax.process_count()
  shapes = {name: (x.shape[0], x.shape[1] // share, *x.shape[2:]) for name, x in experiment.batch_shape().items()}
  batch = {
    "video": generator.integers(256, size=shapes["video"], dtype=np.uint8),
    "label": np.zeros(shapes["label"], np.int32),
  }
  while True:
    yield batch


def _time_figures(timing: StepTiming, clips_per_second: float) -> list[Measurement]:
  return [
    Measurement(name="step, median", value=1e3 * timing.bare, unit="ms", note="batch on the devices, no loop"),
    Measurement(name="step, fastest", value=1e3 * timing.fastest, unit="ms"),
    Measurement(name="clips consumed", value=clips_per_second, unit="clips/s", note="real ones, by the median step"),
    Measurement(name="loop, median", value=1e3 * timing.loop, unit="ms", note="input, metrics and hooks included"),
    Measurement(name="loop / step", value=timing.loop / timing.bare, at_most=1.03, note="see also --no_data"),
  ]


def _whole_run_figures(seconds: float, num_steps: int, *, devices: int) -> list[Measurement]:
  """What all steps of a run take at the loop's speed; `seconds` are those of one step."""
  hours = seconds * num_steps / 3600
  note = "all steps like these; scores, pictures and checkpoints come on top"
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


def _flops_figures(
  needed: dict[str, counting.Parts], executed: float | None, how: str, traced: int
) -> list[Measurement]:
  total = sum(sum(parts.values()) for parts in needed.values())
  result = []
  for update, parts in needed.items():
    sums: dict[str, int] = {}
    for kind, count in sorted(parts.items(), key=lambda item: (item[0].on, item[0])):
      label = f"{kind.network or 'losses'} {kind.direction}" if kind.on == "clips" else "weights alone"
      sums[label] = sums.get(label, 0) + count
    result += [Measurement(name=f"  {update}: {label}", value=n / 1e9, unit="GFLOP") for label, n in sums.items()]
  ratio = executed / total if executed else None
  return [
    Measurement(
      name="FLOPs from layer shapes", value=total / 1e9, unit="GFLOP", note="a step on all devices, of these"
    ),
    *result,
    Measurement(name="FLOPs of traced products", value=traced / 1e9, unit="GFLOP", note="with JAX's gradients"),
    Measurement(name="FLOPs as compiled", value=executed and executed / 1e9, unit="GFLOP", note=how),
    Measurement(name="compiled / layer shapes", value=ratio, at_most=1.15, note="all operations, also elementwise"),
  ]


def published_peak(device_kind: str) -> float | None:
  """FLOP/s of one device by `PEAKS`; None if its kind, such as 'NVIDIA H200', is not there."""
  return next((peak for pattern, peak in PEAKS if re.fullmatch(pattern, device_kind)), None)


def _utilisation(needed: float, seconds: float, peak: float | None) -> Measurement:
  kind = jax.devices()[0].device_kind
  peak = peak or published_peak(kind)
  if peak is None:
    return Measurement(name="MFU", value=None, unit="%", note=f"no peak known for {kind!r}: give --peak_tflops")
  value = 100 * needed / (seconds * peak * jax.device_count())
  return Measurement(name="MFU", value=value, unit="%", note=f"of {peak / 1e12:g} TFLOP/s a device")


def _bench_network(flag_values: flags.FlagValues) -> list[Measurement]:
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
  return [
    Measurement(name="clips", value=timing.clips_per_second, unit="clips/s", note="from host memory to features"),
    Measurement(name="first batch", value=timing.compilation, unit="s", note="with compilation"),
    Measurement(name="peak memory, few clips", value=timing.peak_few / 2**20, unit="MiB", note="of the process"),
    Measurement(name="peak memory, all clips", value=timing.peak_all / 2**20, unit="MiB", note=f"{timing.num_clips}"),
    Measurement(
      name="all / few", value=timing.peak_all / timing.peak_few, at_most=1.1, note=f"{times:.3g} times as many clips"
    ),
  ]


def describe(name: str, **settings: Any) -> dict[str, Any]:
  """What was measured, and on what.

  Args:
    name: of the experiment or the network.
    **settings: of the measurement.
  """
  return {
    "experiment": name,
    "device": jax.devices()[0].device_kind,
    "devices": jax.device_count(),
    "jax": jax.__version__,
    **settings,
  }


def table(measurements: list[Measurement]) -> str:
  """The figures as aligned lines of name, value, unit, goal and note."""
  rows = []
  for m in measurements:
    goals = [f"{sign} {goal:g}" for sign, goal in (("<=", m.at_most), (">=", m.at_least)) if goal is not None]
    verdict = {None: "", True: " met", False: " MISSED"}[m.met]
    value = "unknown" if m.value is None else _significant(m.value)
    rows.append((m.name, value, m.unit, " and ".join(goals) + verdict, m.note))
  widths = [max(len(row[i]) for row in rows) for i in range(4)]
  lines = [
    f"{name:<{widths[0]}}  {value:>{widths[1]}} {unit:<{widths[2]}}  {goal:<{widths[3]}}  {note}".rstrip()
    for name, value, unit, goal, note in rows
  ]
  return "\n".join(lines) + "\n"


def _significant(value: float) -> str:
  """At least four significant digits, without an exponent."""
  decimals = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
  return f"{value:,.{min(decimals, 6)}f}"


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
  with disk_errors(path), written_whole(path) as temporary:
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
