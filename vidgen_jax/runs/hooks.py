"""Tasks that the training loop runs after some steps, and its handling of metrics."""

import abc
from collections.abc import Mapping
from typing import Any

from vidgen_jax.core.state import TrainState
from vidgen_jax.runs.config import TrainConfig
from vidgen_jax.runs.progress import Progress
from vidgen_jax.runs.writers import MetricWriter


class Hook(abc.ABC):
  """A task that the training loop runs after some steps, before it saves a checkpoint."""

  @property
  def finished(self) -> bool:
    """Whether the training ends after the current step."""
    return False

  @abc.abstractmethod
  def due(self, step: int) -> bool:
    """Whether the hook runs after `step` completed steps."""

  @abc.abstractmethod
  def __call__(self, step: int, state: TrainState) -> None:
    """Runs the task. The arrays of `state` must not be kept: the next step overwrites them."""

  def get_state(self) -> dict[str, Any]:
    """JSON-compatible state, saved with every checkpoint."""
    return {}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores the result of `get_state`."""
    del state


def is_due(step: int, every: int, num_steps: int) -> bool:
  """Whether a task of every `every` steps (0 for never) is due after `step` steps; it is always due after the last."""
  return bool(every) and (step % every == 0 or step == num_steps)


class MetricWindow:
  """Means of metrics over windows of `log_every` steps.

  The state includes the window that has begun, so a run that is killed and resumed writes the same rows as an
  uninterrupted one.
  """

  def __init__(self, config: TrainConfig) -> None:
    self._config = config
    self._sums: dict[str, tuple[float, int]] = {}

  def get_state(self) -> dict[str, Any]:
    """JSON-compatible sums and counts of the current window."""
    return {name: list(found) for name, found in self._sums.items()}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores the result of `get_state`."""
    self._sums = {name: (total, count) for name, (total, count) in state.items()}

  def due(self, step: int) -> bool:
    """Whether means are taken after `step` completed steps."""
    return is_due(step, self._config.log_every, self._config.num_steps)

  def complete(self, step: int) -> bool:
    """Whether a window ends at `step`; the window that the last step of a run cuts short is not complete."""
    return step % self._config.log_every == 0

  def add(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
    """Adds the metrics of a step; returns the means of the window if they are due.

    Args:
      step: number of completed steps.
      values: metrics of the step; the mean of a metric that only some steps have is over these steps.
    """
    for name, value in values.items():
      total, count = self._sums.get(name, (0.0, 0))
      self._sums[name] = total + value, count + 1
    if not self.due(step):
      return None
    means = {name: total / count for name, (total, count) in self._sums.items()}
    if self.complete(step):
      self._sums = {}
    return means


class MetricLog:
  """Shows the metrics of every step, and writes their means and the speed every `log_every` steps."""

  def __init__(self, window: MetricWindow, writer: MetricWriter, progress: Progress) -> None:
    self.window = window
    self._writer = writer
    self._progress = progress

  def add(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
    """Takes the metrics of a step; returns the means that were written, or None."""
    self._progress.update(step, metrics=values)
    means = self.window.add(step, values)
    if means is not None:
      rate = self._progress.steps_per_second()
      self._writer.write_scalars(step, means | ({"steps_per_second": rate} if rate else {}))
    return means

  def flush(self) -> None:
    """Returns when all rows are as durable as a checkpoint of their step."""
    self._writer.flush()
