"""Compares variants of a paper on this machine, such as the rows of Table 1 of TrIVD-GAN-FP.

--table=decompositions: one row per `config.algorithm.decomposition` (MoCoGAN-like with K = 1 and with K frames).
--table=units: one row per `config.algorithm.recurrent_unit`; units that are many times slower must be named in --rows.
--table=mvt: the variants of MVT-GAN.

All other fields are those of --config. Rows take turns, on noise. The step of TrIVD-GAN-FP (E.3) has
--config.train.batch_size=8 on one device.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from absl import flags, logging

from benchmarks.paper_rows import TABLES, Published, Row, Table, choose_rows
from benchmarks.script import run_script
from vidgen_jax.bench.compilation import planned_memory, trace_step
from vidgen_jax.bench.cost_estimate import needed_flops, total_flops
from vidgen_jax.bench.measurements import Measurement, Report, describe, significant, table_text
from vidgen_jax.bench.step_timing import WINDOWS, CompiledStep, StepTiming, noise, timed_steps
from vidgen_jax.commands.flag_parsing import define_config
from vidgen_jax.core.state import TrainState
from vidgen_jax.core.step import StepConstants
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.runs.config import ExperimentConfig, from_config_dict
from vidgen_jax.runs.experiment import Experiment, build_experiment
from vidgen_jax.types import Batch

KILOSTEPS = 1000.0
"""Step budget of the fastest row, in thousands; the others get the steps that take the same time (4.2)."""


@dataclass(frozen=True, kw_only=True)
class Figures:
  """A measured row.

  Attributes:
    name: name of the row.
    discriminators: abbreviations of Table 1, with K in front of those of frames.
    ms: median duration of a train step.
    ratio: this duration over the reference's; None if the reference is not measured.
    kilosteps: thousands of steps in the time of `KILOSTEPS` steps of the fastest row.
    gb: memory of one device as planned by XLA, in 1e9 bytes; None if unknown.
    pixels: pixels of a video that all discriminators see.
    parameters: number of parameters of all networks.
    gflop: FLOPs of a step from layer shapes, in 1e9.
    published: the paper's figures.
    published_ratio: ratio of the paper's durations.
  """

  name: str
  discriminators: str
  ms: float
  ratio: float | None
  kilosteps: float
  gb: float | None
  pixels: int
  parameters: int
  gflop: float
  published: Published
  published_ratio: float | None


def measure(config: ExperimentConfig, table: Table, *, rows: Sequence[str] = (), steps: int = 20) -> list[Figures]:
  """Measures rows of a table on noise; they take turns.

  The states of all rows are in device memory at the same time, in addition to the memory of one step.

  Args:
    config: experiment of the table's algorithm; a row changes some of the algorithm's fields.
    table: one of `TABLES`.
    rows: names of rows; empty for all that are not optional.
    steps: number of steps to time for each row, at least 1.

  Returns:
    The rows' figures, in the table's order.

  Raises:
    UserError: if the config is one of another algorithm or a row does not fit it.
  """
  if config.algorithm_name != table.algorithm:
    raise UserError(
      f"--table needs an experiment of {table.algorithm}, but {config.name} is one of {config.algorithm_name}"
    )
  chosen = choose_rows(table, rows)
  experiments = {name: row_experiment(config, row) for name, row in chosen.items()}
  for experiment in experiments.values():
    _ = experiment.abstract_state  # Reports a row that does not fit before any row is compiled.
  compiled = []
  for number, (name, experiment) in enumerate(experiments.items(), 1):
    logging.info("compiling %s (%d of %d)", name, number, len(experiments))
    compiled.append(trace_step(experiment, "main").lower().compile())
  logging.info("timing")
  first = next(iter(experiments.values()))
  timings = time_in_turns(
    compiled,
    [experiment.init_state() for experiment in experiments.values()],
    first.put_batch(noise(first), microbatches=True),
    [experiment.step_constants(0, "main") for experiment in experiments.values()],
    steps=steps,
  )
  times = {name: 1e3 * timing.bare for name, timing in zip(experiments, timings, strict=True)}
  memory = dict(zip(experiments, (planned_memory(step)[0] for step in compiled), strict=True))
  return [
    _figures(name, experiment, chosen[name].published, times, memory[name], table)
    for name, experiment in experiments.items()
  ]


def time_in_turns(
  compiled: Sequence[CompiledStep],
  states: Sequence[TrainState],
  batch: Batch,
  constants: Sequence[StepConstants],
  *,
  steps: int,
) -> list[StepTiming]:
  """Times several train steps that take turns in `WINDOWS` windows, or in `steps` windows if that is fewer.

  Every window begins with an untimed step; every step ends before the next one starts.

  Args:
    compiled: train steps.
    states: initial state of each; donated.
    batch: micro-batches on the devices, the same for all.
    constants: learning rates and frozen nets of each.
    steps: number of timed steps of each, at least 1; rounded up to whole windows.
  """
  states = list(states)
  seconds: list[list[float]] = [[] for _ in compiled]
  windows = min(WINDOWS, steps)
  for _ in range(windows):
    for i, step in enumerate(compiled):
      states[i], times = timed_steps(step, states[i], batch, constants[i], math.ceil(steps / windows))
      seconds[i] += times
  return [StepTiming.from_seconds(times) for times in seconds]


def _figures(
  name: str, experiment: Experiment, published: Published, ms: Mapping[str, float], memory: int | None, table: Table
) -> Figures:
  base, published_base = ms.get(table.reference), table.rows[table.reference].published.ms
  params = [net.params for net in experiment.abstract_state.nets.values()]
  return Figures(
    name=name,
    discriminators=abbreviations(experiment),
    ms=ms[name],
    ratio=base and ms[name] / base,
    kilosteps=KILOSTEPS * min(ms.values()) / ms[name],
    gb=memory and memory / 1e9,
    pixels=pixels_per_video(experiment),
    parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
    gflop=total_flops(needed_flops(experiment, "main")) / 1e9,
    published=published,
    published_ratio=published.ms and published_base and published.ms / published_base,
  )


def goals(table: Table, figures: Sequence[Figures]) -> list[Measurement]:
  """The measured ratios that have a goal."""
  return [
    Measurement(
      name=f"{row.name} / {table.reference}",
      value=row.ratio,
      at_most=table.at_most[row.name],
      note="" if row.published_ratio is None else f"the paper: {row.published_ratio:.3f}",
    )
    for row in figures
    if row.name in table.at_most and row.ratio is not None
  ]


def pixels_per_video(experiment: Experiment) -> int:
  """Pixels of a video that all discriminators see together (TrIVD-GAN-FP, 3.1)."""
  algorithm: Any = experiment.config.algorithm
  data = experiment.config.data
  clip = (data.num_frames, data.resolution, data.resolution)
  counts = (
    view.pixels(clip, num_frames=algorithm.frames_per_clip, factor=getattr(algorithm, "downsampling", 1))
    for view in _views(experiment)
  )
  return sum(counts)


def row_experiment(config: ExperimentConfig, row: Row) -> Experiment:
  """The experiment of a row.

  Raises:
    UserError: if the row does not fit the config.
  """
  return build_experiment(dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, **row.changes)))


def abbreviations(experiment: Experiment) -> str:
  """The discriminators as Table 1 abbreviates them, such as '8 F + dV'."""
  algorithm: Any = experiment.config.algorithm
  return " + ".join(
    f"{algorithm.frames_per_clip} {view.abbreviation}" if view.on == "frames" else view.abbreviation
    for view in _views(experiment)
  )


def _views(experiment: Experiment) -> Sequence[Any]:
  algorithm: Any = experiment.algorithm
  return algorithm.views


_HEADERS = ("", "discriminators", "ms", "ratio", "K steps", "GB", "pixels", "M params", "GFLOP")


def layout(table: Table, figures: Sequence[Figures], *, batch_size: int) -> str:
  """The rows as aligned lines, with the paper's figures in brackets, and a legend.

  Args:
    table: the measured table.
    figures: its rows.
    batch_size: clips of a micro-batch, over all devices.
  """
  cells = [_HEADERS, *map(_cells, figures)]
  widths = [max(len(row[i]) for row in cells) for i in range(len(_HEADERS))]
  lines = []
  for row in cells:
    left = "  ".join(f"{cell:<{width}}" for cell, width in zip(row[:2], widths[:2], strict=True))
    right = "  ".join(f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True))
    lines.append(f"{left}  {right}")
  hours = min(row.ms for row in figures) / 1e3 * KILOSTEPS * 1e3 / 3600
  lines += [
    "",
    f"[{table.source}]",
    f"ms: train step at batch {batch_size} over all devices, batch on the devices; ratio: to {table.reference}",
    f"K steps: thousands in the time in which the fastest row takes 1,000, {significant(hours)} hours on this machine",
    "GB: memory of one device, as planned by XLA; pixels: seen per video; GFLOP: per step, from layer shapes",
  ]
  return "\n".join(lines) + "\n"


def _cells(row: Figures) -> tuple[str, ...]:
  def with_published(own: str, published: float | None, decimals: int) -> str:
    return own if published is None else f"{own} [{published:,.{decimals}f}]"

  return (
    row.name,
    row.discriminators,
    with_published(significant(row.ms), row.published.ms, 0),
    with_published("unknown" if row.ratio is None else f"{row.ratio:.3f}", row.published_ratio, 3),
    with_published(f"{row.kilosteps:,.0f}", row.published.kilosteps, 0),
    with_published("unknown" if row.gb is None else f"{row.gb:.3f}", row.published.gb, 2),
    f"{row.pixels:,}",
    significant(row.parameters / 1e6),
    significant(row.gflop),
  )


def _define_flags(flag_values: flags.FlagValues) -> None:
  define_config(flag_values)
  flags.DEFINE_enum("table", None, list(TABLES), "table to measure", required=True, flag_values=flag_values)
  flags.DEFINE_list("rows", [], "rows to measure; by default all but the slow ones", flag_values=flag_values)
  flags.DEFINE_integer("steps", 20, "steps to time per row", lower_bound=1, flag_values=flag_values)
  flags.mark_flag_as_required("config", flag_values=flag_values)


def report(flag_values: flags.FlagValues) -> Report:
  """Measures the table that the flags name."""
  config, table = from_config_dict(flag_values.config), TABLES[flag_values.table]()
  enable_compilation_cache()
  figures = measure(config, table, rows=flag_values.rows, steps=flag_values.steps)
  ratios = goals(table, figures)
  head = describe(config.name, table=flag_values.table, batch=config.train.batch_size, steps=flag_values.steps)
  text = layout(table, figures, batch_size=config.train.batch_size)
  rows = [dataclasses.asdict(row) for row in figures] + [goal.as_row() for goal in ratios]
  return Report(head=head, rows=rows, text=f"{text}\n{table_text(ratios)}" if ratios else text)


if __name__ == "__main__":
  run_script(_define_flags, report)
