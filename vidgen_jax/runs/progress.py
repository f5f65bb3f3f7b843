"""Progress and speed of a run: a bar on a terminal, periodic log lines elsewhere."""

import functools
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from logging import LogRecord
from typing import Self, TextIO

import tqdm
from absl import logging

_WINDOW = 100
"""Number of steps over which the rate is averaged."""


class Progress:
  """Context manager that shows step / total, steps/s, clips/s, the remaining time and some metrics.

  On a terminal it shows a tqdm bar with log lines above it. Elsewhere (a file, the log of a cluster) it logs a plain
  line every `interval_s` seconds. Rates exclude the first step, which compiles.

  Args:
    total_steps: number of steps of the run.
    initial_step: number of completed steps at the start, above 0 in a resumed run.
    clips_per_step: number of real clips that a step consumes, over all devices; None hides clips/s.
    shown: names of the metrics to show, in this order; None for all.
    interval_s: seconds between plain lines.
    enabled: whether to show anything; False for all processes but the first.
    stream: stream of the bar, standard error by default; lines are logged instead if it is no terminal.
    clock: clock in seconds, of any origin.
  """

  def __init__(
    self,
    total_steps: int,
    *,
    initial_step: int = 0,
    clips_per_step: int | None = None,
    shown: Sequence[str] | None = None,
    interval_s: float = 30.0,
    enabled: bool = True,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._total = total_steps
    self._initial = initial_step
    self._clips_per_step = clips_per_step
    self._shown = shown
    self._interval = interval_s
    self._enabled = enabled
    self._stream = sys.stderr if stream is None else stream
    self._clock = clock
    self._step = initial_step
    self._metrics: dict[str, float] = {}
    self._times: deque[tuple[int, float]] = deque(maxlen=_WINDOW + 1)
    self._last_line = clock()
    self._logged_step: int | None = None
    self._bar: tqdm.tqdm | None = None

  def __enter__(self) -> Self:
    if self._enabled and self._stream.isatty():
      self._bar = tqdm.tqdm(
        total=self._total,
        initial=self._initial,
        file=self._stream,
        dynamic_ncols=True,
        miniters=1,
        bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {postfix}",
      )
      handler = logging.get_absl_handler().python_handler
      handler.emit = functools.partial(_emit_above_the_bar, handler.emit, self._stream)
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._bar.set_postfix_str(self.describe(), refresh=True)
      self._bar.close()
      self._bar = None
      del logging.get_absl_handler().python_handler.emit
    elif self._enabled and self._step not in (self._initial, self._logged_step):
      self._log()

  def update(self, step: int, *, metrics: Mapping[str, float] | None = None) -> None:
    """Shows a new step.

    Args:
      step: number of completed steps of the whole run; must not decrease.
      metrics: floats on the host; a metric that is missing keeps its last value.
    """
    if not self._enabled:
      return
    advance, self._step = step - self._step, step
    self._metrics.update(metrics or {})
    now = self._clock()
    self._times.append((step, now))
    if self._bar is not None:
      self._bar.set_postfix_str(self.describe(), refresh=False)
      self._bar.update(advance)
    elif now - self._last_line >= self._interval:
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
      if self._clips_per_step is not None:
        parts.append(f"{rate * self._clips_per_step:.3g} clips/s")
      if rate > 0:
        parts.append(f"{_duration((self._total - self._step) / rate)} left")
    names = self._metrics if self._shown is None else [name for name in self._shown if name in self._metrics]
    parts.extend(f"{name} {self._metrics[name]:.4g}" for name in names)
    return ", ".join(parts)

  def _log(self) -> None:
    self._last_line = self._clock()
    self._logged_step = self._step
    share = 100 * self._step / self._total if self._total else 100
    logging.info("step %d/%d (%.0f %%) %s", self._step, self._total, share, self.describe())


def _emit_above_the_bar(emit: Callable[[LogRecord], None], stream: TextIO, record: LogRecord) -> None:
  """Hides the bar while absl writes a line to its stream."""
  with tqdm.tqdm.external_write_mode(file=stream):
    emit(record)


def _duration(seconds: float) -> str:
  """3725 -> '1:02:05', 65 -> '1:05'."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
