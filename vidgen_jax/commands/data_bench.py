"""`vidgen data bench NAME`: how fast a data set is read, where the time goes, how many workers a train step needs."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from vidgen_jax.bench.measurements import Measurement, Report, describe, write_report
from vidgen_jax.data import pipeline
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.stage_timing import stored_bytes_per_clip, time_stages, time_windows
from vidgen_jax.data.throughput import measure_clips_per_second
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable

OWN_FLAGS = ("workers", "num_threads", "batch_size", "seconds", "step_ms", "out")
FLAGS = (*OWN_FLAGS, "data_dir", "split", "frames", "resolution")
"""What `vidgen data bench` takes; all but the first ones are shared with other commands of `vidgen data`."""

_FRAMES = 16
"""Of a window, where --frames is not given; it has another default elsewhere."""

_LONG_CLIP, _LONG_CLIP_GOAL = 300 / 16, 1 / 8
"""A window of clips that are at least that many times as long shall cost at most this part of all their frames."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines `OWN_FLAGS`."""
  values = {"flag_values": flag_values}
  flags.DEFINE_list("workers", ["0", "1", "2"], "bench: numbers of worker processes to compare", **values)
  flags.DEFINE_integer(
    "num_threads", DataConfig.num_threads, "bench: threads that read, of every process", lower_bound=1, **values
  )
  flags.DEFINE_integer("batch_size", 16, "bench: clips of a batch, over all micro-batches", lower_bound=1, **values)
  flags.DEFINE_float("seconds", 5.0, "bench: duration of each measurement of clips per second", **values)
  flags.DEFINE_float("step_ms", None, "bench: ms of a train step; says how many workers it needs", **values)
  flags.DEFINE_string("out", None, "bench: JSON-lines file for the figures", **values)


def run(name: str, flag_values: flags.FlagValues) -> None:
  """Measures, and writes a table.

  Args:
    name: of the data set.
    flag_values: parsed flags.

  Raises:
    UserError: if a flag or the data set is at fault.
  """
  workers = _numbers(flag_values["workers"].value)
  _check(flag_values)
  out = Path(flag_values["out"].value) if flag_values["out"].value else None
  if out:
    check_writable(out, "--out")
  config = DataConfig(
    name=name,
    data_dir=flag_values["data_dir"].value,
    train_split=flag_values["split"].value,
    num_frames=flag_values["frames"].value if flag_values["frames"].present else _FRAMES,
    resolution=flag_values["resolution"].value,
    num_threads=flag_values["num_threads"].value,
  )
  batch_size, seconds = flag_values["batch_size"].value, flag_values["seconds"].value
  step_ms = flag_values["step_ms"].value
  figures = bench(config, workers=workers, batch_size=batch_size, seconds=seconds, step_ms=step_ms)
  head = describe(name, frames=config.num_frames, resolution=config.resolution, batch=batch_size, cores=_cores())
  write_report(Report.of(head, figures), out)


def bench(
  config: DataConfig, *, workers: Sequence[int], batch_size: int, seconds: float, step_ms: float | None = None
) -> list[Measurement]:
  """Measures the pipeline on a data set.

  Args:
    config: the data set and the windows.
    workers: numbers of worker processes to compare.
    batch_size: clips of a batch, over all micro-batches.
    seconds: of each measurement of clips per second.
    step_ms: duration of a train step that consumes such a batch, in milliseconds; None for no forecast.

  Returns:
    The figures, in the order of the table.

  Raises:
    UserError: if the data set is missing, or its clips are too short.
  """
  figures = [*_stage_figures(config, batch_size), *_window_figures(config)]
  speeds = {}
  for count in workers:
    stream = pipeline.train_batches(
      dataclasses.replace(config, workers=count), batch_size=batch_size, microbatches=1, seed=0
    )
    speeds[count] = measure_clips_per_second(stream, seconds=seconds)
    stream.close()
  figures += _speed_figures(speeds, config.num_threads)
  if step_ms is not None:
    figures += workers_needed(speeds, clips=batch_size, step_ms=step_ms, threads=config.num_threads, cores=_cores())
  return figures


def workers_needed(
  speeds: Mapping[int, float], *, clips: int, step_ms: float, threads: int, cores: int
) -> list[Measurement]:
  """How many workers, and cores for them, keep up with a train step.

  Where no measured number of workers does, it is extrapolated: the speed of one worker is that of the smallest number
  that was measured, divided by it, and further ones are taken to be as fast, which needs as many cores for each and a
  disk that keeps up.

  Args:
    speeds: clips per second by number of workers; 0, reading in the training process, counts as one.
    clips: that a step consumes.
    step_ms: its duration in milliseconds.
    threads: reading threads of each worker.
    cores: of this machine.
  """
  wanted = clips / (step_ms / 1e3)
  fewest = min((count for count in speeds if count), default=0)
  each = speeds[fewest] / max(1, fewest)
  per_core = speeds[fewest] / _busy_cores(fewest, threads=threads, cores=cores)
  measured = [count for count, speed in speeds.items() if speed >= wanted]
  needed = min(measured) if measured else math.ceil(wanted / each)
  how = "measured" if measured else f"extrapolated from {max(1, fewest)}, as if each further one were as fast"
  return [
    Measurement(name="clips wanted", value=wanted, unit="clips/s", note=f"{clips} in {step_ms:g} ms"),
    Measurement(name="workers needed", value=needed, note=f"{how}; 0 reads in the training process"),
    Measurement(
      name="cores needed", value=math.ceil(wanted / per_core), note=f"like these, extrapolated; here are {cores}"
    ),
  ]


def _stage_figures(config: DataConfig, batch_size: int) -> list[Measurement]:
  timing = time_stages(config, batch_size=batch_size, batches=max(4, 128 // batch_size))
  figures = [
    Measurement(name="stored clip", value=stored_bytes_per_clip(config) / 1024, unit="KiB", note="of the files"),
    Measurement(name="record read for a window", value=timing.record_bytes / 1024, unit="KiB", note="uncompressed"),
    Measurement(name="frames of a window", value=timing.window_bytes / 1024, unit="KiB", note="as they are encoded"),
    Measurement(
      name="window, one thread", value=1e3 * sum(timing.seconds.values()), unit="ms", note="all stages, means"
    ),
  ]
  return figures + [
    Measurement(name=f"  {stage}", value=100 * share, unit="%", note=f"{1e3 * timing.seconds[stage]:.3f} ms a clip")
    for stage, share in timing.shares.items()
  ]


def _window_figures(config: DataConfig) -> list[Measurement]:
  cost = time_windows(config, repeats=64)
  goal = _LONG_CLIP_GOAL if cost.num_frames >= _LONG_CLIP * config.num_frames else None
  note = f"{config.num_frames} of {cost.num_frames:g} frames: {1e3 * cost.window:.3f} of {1e3 * cost.whole:.3f} ms"
  return [Measurement(name="window / whole clip", value=cost.ratio, at_most=goal, note=note)]


def _speed_figures(speeds: Mapping[int, float], threads: int) -> list[Measurement]:
  figures = []
  for count, speed in speeds.items():
    cores = _busy_cores(count, threads=threads, cores=_cores())
    name = f"{count} workers" if count else "no worker"
    note = f"{threads} threads each" if count else f"{threads} threads"
    figures += [
      Measurement(name=f"clips, {name}", value=speed, unit="clips/s", note=note),
      Measurement(name=f"clips per core, {name}", value=speed / cores, unit="clips/s", note=f"of {cores} cores"),
    ]
  return figures


def _busy_cores(workers: int, *, threads: int, cores: int) -> int:
  """Cores that so many workers can use."""
  return min(cores, threads * max(1, workers))


def _check(flag_values: flags.FlagValues) -> None:
  for flag in ("seconds", "step_ms"):
    value = flag_values[flag].value
    if value is not None and not value > 0:
      raise UserError(f"--{flag}={value:g} must be positive")


def _numbers(words: Sequence[str]) -> list[int]:
  if not words or not all(word.isdecimal() for word in words):
    raise UserError(f"--workers={','.join(words)} must be numbers of processes, such as 0,1,2")
  return [int(word) for word in words]


def _cores() -> int:
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
