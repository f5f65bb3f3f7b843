"""`vidgen data bench NAME`: clips per second, time of each stage, and number of workers that a train step needs."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from absl import flags

from vidgen_jax.bench.measurements import Measurement, Report, describe, write_report
from vidgen_jax.commands.flag_parsing import values_of
from vidgen_jax.data import pipeline
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.throughput import measure_clips_per_second, stored_bytes_per_clip, time_stages, time_windows
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable

FLAGS = ("workers", "num_threads", "batch_size", "seconds", "step_ms")
"""Flags that no other action of `vidgen data` has."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines `FLAGS`."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_list("workers", ["0", "1", "2"], "bench: numbers of worker processes to compare", **values)
  threads = DataConfig.num_threads
  flags.DEFINE_integer("num_threads", threads, "bench: reading threads per process", lower_bound=1, **values)
  flags.DEFINE_integer("batch_size", 16, "bench: clips of a batch, over all micro-batches", lower_bound=1, **values)
  flags.DEFINE_float("seconds", 5.0, "bench: duration of each measurement of clips per second", **values)
  flags.DEFINE_float("step_ms", None, "bench: ms of a train step, to compute the workers it needs", **values)


def run(name: str, flag_values: flags.FlagValues) -> None:
  """Measures how fast a built data set is read, and prints a table."""
  words = flag_values.workers
  if not words or not all(word.isdecimal() for word in words):
    raise UserError(f"--workers={','.join(words)} must be numbers of processes, such as 0,1,2")
  for flag, value in values_of(flag_values, "seconds", "step_ms").items():
    if value is not None and not value > 0:
      raise UserError(f"--{flag}={value:g} must be positive")
  out = check_writable(flag_values.out, "--out")
  config = DataConfig(
    name=name,
    train_split=flag_values.split,
    num_frames=flag_values.frames if flag_values["frames"].present else 16,
    **values_of(flag_values, "data_dir", "resolution", "num_threads"),
  )
  batch_size, step_ms, speeds = flag_values.batch_size, flag_values.step_ms, {}
  figures = [*_stage_figures(config, batch_size), _window_figure(config)]
  for count in map(int, words):
    data = dataclasses.replace(config, workers=count)
    stream = pipeline.train_batches(data, batch_size=batch_size, microbatches=1, seed=0)
    speeds[count] = measure_clips_per_second(stream, seconds=flag_values.seconds)
    stream.close()
  figures += _speed_figures(speeds, config.num_threads)
  if step_ms is not None:
    figures += workers_needed(speeds, clips=batch_size, step_ms=step_ms, threads=config.num_threads, cores=_cores())
  head = describe(name, frames=config.num_frames, resolution=config.resolution, batch=batch_size, cores=_cores())
  write_report(Report.of(head, figures), out)


def workers_needed(
  speeds: Mapping[int, float], *, clips: int, step_ms: float, threads: int, cores: int
) -> list[Measurement]:
  """Computes the number of workers and cores that keep up with a train step of `clips` clips.

  `speeds` are clips per second by number of workers; 0, reading in the training process, counts as one. If no measured
  number of workers suffices, the speed per worker of the smallest measured number is extrapolated, which assumes as
  many cores per worker and a disk that keeps up.
  """
  wanted = clips / (step_ms / 1e3)
  fewest = min((count for count in speeds if count), default=0)
  each = speeds[fewest] / max(1, fewest)
  cores_needed = math.ceil(wanted / (speeds[fewest] / _busy_cores(fewest, threads=threads, cores=cores)))
  measured = [count for count, speed in speeds.items() if speed >= wanted]
  needed = min(measured) if measured else math.ceil(wanted / each)
  how = "measured" if measured else f"extrapolated from {max(1, fewest)}, at the same speed per worker"
  return [
    Measurement(name="clips wanted", value=wanted, unit="clips/s", note=f"{clips} in {step_ms:g} ms"),
    Measurement(name="workers needed", value=needed, note=f"{how}; 0 reads in the training process"),
    Measurement(name="cores needed", value=cores_needed, note=f"extrapolated; this machine has {cores}"),
  ]


def _stage_figures(config: DataConfig, batch_size: int) -> list[Measurement]:
  stages, record_bytes, window_bytes = time_stages(config, batch_size=batch_size, batches=max(4, 128 // batch_size))
  total = sum(stages.values())
  return [
    Measurement(name="stored clip", value=stored_bytes_per_clip(config) / 1024, unit="KiB", note="of the files"),
    Measurement(name="record read for a window", value=record_bytes / 1024, unit="KiB", note="uncompressed"),
    Measurement(name="frames of a window", value=window_bytes / 1024, unit="KiB", note="as they are encoded"),
    Measurement(name="window, one thread", value=1e3 * total, unit="ms", note="all stages, means"),
    *(
      Measurement(name=f"  {stage}", value=100 * seconds / total, unit="%", note=f"{1e3 * seconds:.3f} ms a clip")
      for stage, seconds in stages.items()
    ),
  ]


def _window_figure(config: DataConfig) -> Measurement:
  window, whole, num_frames = time_windows(config, repeats=64)
  # The goal of a window of 16 of 300 frames.
  goal = 1 / 8 if num_frames >= 300 / 16 * config.num_frames else None
  note = f"{config.num_frames} of {num_frames:g} frames: {1e3 * window:.3f} of {1e3 * whole:.3f} ms"
  return Measurement(name="window / whole clip", value=window / whole, at_most=goal, note=note)


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
  return min(cores, threads * max(1, workers))


def _cores() -> int:
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
