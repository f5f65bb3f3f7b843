"""How far a run is and how fast it goes: a bar on a terminal, a line now and then anywhere else."""

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
"""Steps over which the rate is taken."""


class Progress:
  """Shows step / total, steps/s, clips/s, the remaining time and a few metrics. Use it as a context manager.

  On a terminal it is a tqdm bar, and log lines appear above it. Elsewhere (a file, a cluster's log) a plain line is
  logged every `interval_s` seconds, without carriage returns. Rates begin at the end of the first step, which compiles.

  Args:
    total_steps: the run's last step.
    initial_step: completed steps at the start, above 0 in a resumed run.
    clips_per_step: real clips that one step consumes, over all devices; None leaves clips/s out.
    shown: the metrics to show, in this order, where `update` brings them; None shows all that come.
    interval_s: seconds between plain lines.
    enabled: False shows nothing, for all processes but the lead.
    stream: where the bar goes; whether it is a terminal decides between bar and lines. Standard error by default.
    clock: seconds from any origin.
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
    """Reports that `step` steps are completed.

    Args:
      step: completed steps, counted over the whole run; not less than in the last call.
      metrics: floats on the host; a metric that does not come keeps its last value.
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
    """The rate over the last hundred steps; None until two steps are done, since the first one compiles."""
    if len(self._times) < 2:
      return None
    (first_step, first_time), (last_step, last_time) = self._times[0], self._times[-1]
    return (last_step - first_step) / (last_time - first_time) if last_time > first_time else None

  def describe(self) -> str:
    """Rates, remaining time and metrics, as the bar and the lines show them."""
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
  """Takes the bar away while absl writes a line, to whichever stream its flags say."""
  with tqdm.tqdm.external_write_mode(file=stream):
    emit(record)


def _duration(seconds: float) -> str:
  """3725 -> '1:02:05', 65 -> '1:05'."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
