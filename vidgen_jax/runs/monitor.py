"""Metrics of a run on the host: progress and speed, means over windows, and detection of collapsed training."""

import dataclasses
import functools
import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from logging import LogRecord
from typing import Any, NamedTuple, Self, TextIO

import tqdm
from absl import logging

from vidgen_jax.runs.config import HealthConfig, TrainConfig
from vidgen_jax.runs.writers import MetricWriter

_RATE_STEPS = 100
"""Number of steps over which the rate is averaged."""


def is_due(step: int, every: int, num_steps: int) -> bool:
  """Whether a task of every `every` steps (0 for never) is due after `step` steps; it is always due after the last."""
  return bool(every) and (step % every == 0 or step == num_steps)


@dataclasses.dataclass(kw_only=True)
class Progress:
  """Context manager that shows step / total, steps/s, clips/s, the remaining time and some metrics.

  On a terminal it shows a tqdm bar with log lines above it. Elsewhere (a file, the log of a cluster) it logs a plain
  line every `interval_s` seconds. Rates exclude the first step, which compiles.

  Attributes:
    total_steps: number of steps of the run.
    initial_step: number of completed steps at the start, above 0 in a resumed run.
    clips_per_step: number of real clips that a step consumes, over all devices; None hides clips/s.
    shown: names of the metrics to show, in this order; None for all.
    interval_s: seconds between plain lines.
    enabled: whether to show anything; False for all processes but the first.
    stream: stream of the bar.
    clock: clock in seconds, of any origin.
  """

  total_steps: int = dataclasses.field(kw_only=False)
  initial_step: int = 0
  clips_per_step: int | None = None
  shown: Sequence[str] | None = None
  interval_s: float = 30.0
  enabled: bool = True
  stream: TextIO = dataclasses.field(default_factory=lambda: sys.stderr)
  clock: Callable[[], float] = time.monotonic

  def __post_init__(self) -> None:
    self._step = self.initial_step
    self._metrics: dict[str, float] = {}
    self._times: deque[tuple[int, float]] = deque(maxlen=_RATE_STEPS + 1)
    self._last_line = self.clock()
    self._logged_step: int | None = None
    self._bar: tqdm.tqdm | None = None

  def __enter__(self) -> Self:
    if self.enabled and self.stream.isatty():
      self._bar = tqdm.tqdm(
        total=self.total_steps,
        initial=self.initial_step,
        file=self.stream,
        dynamic_ncols=True,
        miniters=1,
        bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {postfix}",
      )
      handler = logging.get_absl_handler().python_handler
      handler.emit = functools.partial(_emit_above_the_bar, handler.emit, self.stream)
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._bar.set_postfix_str(self.describe(), refresh=True)
      self._bar.close()
      self._bar = None
      del logging.get_absl_handler().python_handler.emit
    elif self.enabled and self._step not in (self.initial_step, self._logged_step):
      self._log()

  def update(self, step: int, *, metrics: Mapping[str, float] | None = None) -> None:
    """Shows the number of completed steps of the run, and metrics; one that is missing keeps its last value."""
    if not self.enabled:
      return
    advance, self._step = step - self._step, step
    self._metrics.update(metrics or {})
    now = self.clock()
    self._times.append((step, now))
    if self._bar is not None:
      self._bar.set_postfix_str(self.describe(), refresh=False)
      self._bar.update(advance)
    elif now - self._last_line >= self.interval_s:
      self._log()

  def steps_per_second(self) -> float | None:
    """The rate over the last hundred steps; None until two steps are done."""
    if len(self._times) < 2:
      return None
    (first_step, first_time), (last_step, last_time) = self._times[0], self._times[-1]
    return (last_step - first_step) / (last_time - first_time) if last_time > first_time else None

  def describe(self) -> str:
    """Rates, remaining time and metrics as text."""
    parts = []
    if (rate := self.steps_per_second()) is not None:
      parts.append(f"{rate:.3g} steps/s")
      if self.clips_per_step is not None:
        parts.append(f"{rate * self.clips_per_step:.3g} clips/s")
      parts.append(f"{tqdm.tqdm.format_interval((self.total_steps - self._step) / rate)} left")
    names = self._metrics if self.shown is None else [name for name in self.shown if name in self._metrics]
    parts.extend(f"{name} {self._metrics[name]:.4g}" for name in names)
    return ", ".join(parts)

  def _log(self) -> None:
    self._last_line = self.clock()
    self._logged_step = self._step
    share = 100 * self._step / self.total_steps if self.total_steps else 100
    logging.info("step %d/%d (%.0f %%) %s", self._step, self.total_steps, share, self.describe())


def _emit_above_the_bar(emit: Callable[[LogRecord], None], stream: TextIO, record: LogRecord) -> None:
  with tqdm.tqdm.external_write_mode(file=stream):
    emit(record)


class MetricLog:
  """Shows the metrics of every step, and writes their means and the speed over windows of `log_every` steps.

  The state includes the window that has begun, so a run that is killed and resumed writes the same rows as an
  uninterrupted one.
  """

  def __init__(self, config: TrainConfig, writer: MetricWriter, progress: Progress) -> None:
    self.writer = writer
    self._config = config
    self._progress = progress
    self._sums: dict[str, tuple[float, int]] = {}

  def get_state(self) -> dict[str, Any]:
    """JSON-compatible sums and counts of the current window."""
    return dict(self._sums)

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores the result of `get_state`."""
    self._sums = dict(state)

  def due(self, step: int) -> bool:
    """Whether means are written after `step` completed steps."""
    return is_due(step, self._config.log_every, self._config.num_steps)

  def complete(self, step: int) -> bool:
    """Whether a window ends at `step`; the window that the last step of a run cuts short is not complete."""
    return step % self._config.log_every == 0

  def add(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
    """Adds the metrics after `step` completed steps; returns the means that were written, or None.

    The mean of a metric that only some steps have is over these steps.
    """
    self._progress.update(step, metrics=values)
    for name, value in values.items():
      total, count = self._sums.get(name, (0.0, 0))
      self._sums[name] = total + value, count + 1
    if not self.due(step):
      return None
    means = {name: total / count for name, (total, count) in self._sums.items()}
    if self.complete(step):
      self._sums = {}
    rate = self._progress.steps_per_second()
    self.writer.write_scalars(step, means | ({"steps_per_second": rate} if rate else {}))
    return means


class Collapse(NamedTuple):
  """Evidence of a collapse: the metric whose mean exceeds its limit by the largest factor."""

  step: int
  """Last step of the window that completed the collapse."""
  metric: str
  value: float
  limit: float
  bad_windows: int
  """Number of consecutive bad windows so far."""
  good_step: int
  """Last step of the last good window; the first step of the detector if there was none."""

  def __str__(self) -> str:
    return (
      f"{self.metric} is {self.value:.4g} at step {self.step}, above its limit of {self.limit:.4g}; the last good "
      f"window ended at step {self.good_step}"
    )


class CollapseDetector:
  """Checks one window of metrics after the other. Works on floats of the host; equal on all processes of a job."""

  def __init__(self, config: HealthConfig, *, first_step: int = 0, saved: Mapping[str, Any] | None = None) -> None:
    """Resumes from the result of `get_state`, or starts without history at `first_step`, which counts as good."""
    self._config = config
    state: dict[str, Any] = dict(saved or {"bad_windows": 0, "good_step": first_step, "history": {}})
    self._bad_windows: int = state["bad_windows"]
    self._good_step: int = state["good_step"]
    self._history: dict[str, list[float]] = dict(state["history"])

  def get_state(self) -> dict[str, Any]:
    """JSON-compatible state that determines all later results."""
    return {"bad_windows": self._bad_windows, "good_step": self._good_step, "history": dict(self._history)}

  def check(self, step: int, means: Mapping[str, float]) -> Collapse | None:
    """Checks the means of the window that ended at `step`; returns the collapse while it lasts."""
    exceeded = [found for found in self._limited(means) if found[1] > found[2]]
    if not exceeded:
      self._bad_windows, self._good_step = 0, step
      for name, value in means.items():
        if self._factor(name):
          self._history[name] = [*self._history.get(name, []), value][-self._config.history :]
      return None
    self._bad_windows += 1
    if self._bad_windows < self._config.patience:
      return None
    worst = max(exceeded, key=lambda found: (found[1] / found[2] if found[2] else math.inf, *found))
    return Collapse(step, *worst, self._bad_windows, self._good_step)

  def _limited(self, means: Mapping[str, float]) -> Iterator[tuple[str, float, float]]:
    """(name, value, limit) of every metric, and of every distance of discriminator outputs, that has a limit."""
    for name, value in means.items():
      history = self._history.get(name, [])[-self._config.history :]
      if (factor := self._factor(name)) and len(history) == self._config.history:
        yield name, value, factor * statistics.median(history)
      prefix, _, kind = name.rpartition("/")
      for generated in ("fake", "decoded", "drawn") if kind == "real" and self._config.margin_limit else ():
        if (other := means.get(f"{prefix}/{generated}")) is not None:
          yield f"{prefix}/real - {generated}", abs(value - other), self._config.margin_limit

  def _factor(self, name: str) -> float:
    """Limit in medians; 0 for a metric that is not compared with its history."""
    factors = {"grad_norm": self._config.grad_norm_factor, "sigma_max": self._config.sigma_factor}
    return factors.get(name.rpartition("/")[2], 0.0)
