"""What the variants of a paper cost on the hardware at hand, such as the rows of Table 1 of TrIVD-GAN-FP."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
from absl import logging

from vidgen_jax.bench.compilation import planned_memory, trace_step
from vidgen_jax.bench.measurements import Measurement, significant
from vidgen_jax.bench.paper_tables import Published, Row, Table, choose_rows
from vidgen_jax.bench.step_flops import needed_flops, total_flops
from vidgen_jax.bench.step_timing import noise, time_in_turns
from vidgen_jax.errors import UserError
from vidgen_jax.runs import experiment as experiments
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import Experiment

KILOSTEPS = 1000.0
"""Step budget of the fastest row, in thousands: the others get what fits into the same time (4.2)."""


@dataclass(frozen=True, kw_only=True)
class Figures:
  """A measured row.

  Attributes:
    name: of the row.
    judges: the discriminators in the letters of Table 1, K before those of frames.
    ms: of a step, the median.
    ratio: of this time to the reference's; None where the reference is not measured.
    kilosteps: thousands of steps in the time of `KILOSTEPS` of the fastest row.
    gb: memory of one device as planned by XLA, in 1e9 bytes; None where the backend does not tell.
    pixels: that all discriminators judge of a video.
    parameters: of all networks.
    gflop: needed by a step, from layer shapes.
    published: the paper's figures.
    published_ratio: of the paper's times.
  """

  name: str
  judges: str
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

  The states of all rows lie on the devices together, beside the memory of one step.

  Args:
    config: of the table's algorithm, whose fields are the same in all rows but for those that a row changes.
    table: one of `TABLES`.
    rows: names of those to measure; none for all that are not optional.
    steps: how many to time for each row, at least 1.

  Returns:
    The rows' figures, in the table's order.

  Raises:
    UserError: if the config is one of another algorithm or a row does not fit it.
  """
  if config.algorithm_name != table.algorithm:
    raise UserError(
      f"this --table needs an experiment of {table.algorithm}, and {config.name} is one of {config.algorithm_name}"
    )
  chosen = choose_rows(table, rows)
  made = {name: _experiment(config, row) for name, row in chosen.items()}
  for experiment in made.values():
    _ = experiment.abstract_state  # what does not fit a row is told before any is compiled
  compiled = []
  for number, (name, experiment) in enumerate(made.items(), 1):
    logging.info("compiling %s (%d of %d)", name, number, len(made))
    compiled.append(trace_step(experiment, "main").lower().compile())
  logging.info("timing")
  first = next(iter(made.values()))
  timings = time_in_turns(
    compiled,
    [experiment.init_state() for experiment in made.values()],
    first.put_batch(noise(first), microbatches=True),
    [experiment.step_constants(0, "main") for experiment in made.values()],
    steps=steps,
  )
  times = {name: 1e3 * timing.bare for name, timing in zip(made, timings, strict=True)}
  memory = dict(zip(made, (planned_memory(step)[0] for step in compiled), strict=True))
  return [
    _figures(name, experiment, chosen[name].published, times, memory[name], table) for name, experiment in made.items()
  ]


def _figures(
  name: str, experiment: Experiment, published: Published, times: Mapping[str, float], memory: int | None, table: Table
) -> Figures:
  """A row's figures; `times` are those of all rows in ms, `memory` is in bytes."""
  base, published_base = times.get(table.reference), table.rows[table.reference].published.ms
  params = [net.params for net in experiment.abstract_state.nets.values()]
  return Figures(
    name=name,
    judges=_judges(experiment),
    ms=times[name],
    ratio=base and times[name] / base,
    kilosteps=KILOSTEPS * min(times.values()) / times[name],
    gb=memory and memory / 1e9,
    pixels=pixels_per_video(experiment),
    parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
    gflop=total_flops(needed_flops(experiment, "main")) / 1e9,
    published=published,
    published_ratio=published.ms and published_base and published.ms / published_base,
  )


def goals(table: Table, figures: Sequence[Figures]) -> list[Measurement]:
  """The ratios that have a goal, as far as they were measured."""
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
  """Pixels of a video that all discriminators judge together (TrIVD-GAN-FP, 3.1)."""
  algorithm, data = experiment.config.algorithm, experiment.config.data
  clip = (data.num_frames, data.resolution, data.resolution)
  counts = (
    view.pixels(clip, num_frames=algorithm.frames_per_clip, factor=getattr(algorithm, "downsampling", 1))
    for view in experiment.algorithm.views
  )
  return sum(counts)


def _experiment(config: ExperimentConfig, row: Row) -> Experiment:
  algorithm = dataclasses.replace(config.algorithm, **row.changes)
  return experiments.build(dataclasses.replace(config, algorithm=algorithm))


def _judges(experiment: Experiment) -> str:
  k = experiment.config.algorithm.frames_per_clip
  return " + ".join(
    f"{k} {view.abbreviation}" if view.on == "frames" else view.abbreviation for view in experiment.algorithm.views
  )


_HEADERS = ("", "judges", "ms", "ratio", "K steps", "GB", "pixels", "M params", "GFLOP")


def layout(table: Table, figures: Sequence[Figures], *, batch_size: int) -> str:
  """The rows as aligned lines, the paper's figures in brackets, and what they mean.

  Args:
    table: that was measured.
    figures: its rows.
    batch_size: clips in a micro-batch, over all devices.
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
    f"ms: a train step at batch {batch_size} over all devices, batch on the devices; ratio: to {table.reference}",
    f"K steps: thousands in equal time, in which the fastest row takes 1,000: {significant(hours)} hours here",
    "GB: of one device, as planned by XLA; pixels: of a video, judged; GFLOP: a step, from layer shapes",
  ]
  return "\n".join(lines) + "\n"


def _cells(row: Figures) -> tuple[str, ...]:
  def beside(own: str, published: float | None, decimals: int) -> str:
    return own if published is None else f"{own} [{published:,.{decimals}f}]"

  return (
    row.name,
    row.judges,
    beside(significant(row.ms), row.published.ms, 0),
    beside("unknown" if row.ratio is None else f"{row.ratio:.3f}", row.published_ratio, 3),
    beside(f"{row.kilosteps:,.0f}", row.published.kilosteps, 0),
    beside("unknown" if row.gb is None else f"{row.gb:.3f}", row.published.gb, 2),
    f"{row.pixels:,}",
    significant(row.parameters / 1e6),
    significant(row.gflop),
  )
