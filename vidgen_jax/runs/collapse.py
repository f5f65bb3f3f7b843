"""Detection of collapsed training from its metrics. A GAN does not recover from a collapse by itself."""

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidgen_jax.errors import UserError

GENERATED = ("fake", "decoded", "drawn")
"""Metric names of a discriminator's mean output on generated input; 'real' is the one on real input."""


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
  """Limits beyond which metrics count as a collapse, and the reaction to it.

  The detector checks means over windows of `train.log_every` steps. A window is bad if any limit is exceeded;
  `patience` bad windows in a row are a collapse. A metric that is NaN or infinite always ends the run. The metrics do
  not reveal mode collapse.

  Attributes:
    action: reaction to a collapse: 'warn' logs one line, 'stop' ends the run, 'off' does nothing.
    patience: number of consecutive bad windows that make a collapse.
    history: number of good windows whose median is the reference; a metric is not checked before it has as many.
    grad_norm_factor: upper limit of an update's gradient norm, in medians; 0 turns the check off.
    sigma_factor: upper limit of the largest singular value of a net's kernels, in medians; 0 turns the check off. At
      collapse the generator's explodes and the discriminator's jumps (Brock et al. 2018, sections 4.1 and 4.2).
    margin_limit: upper limit of the distance between a discriminator's mean outputs on real and on generated inputs; 0
      turns the check off. Beyond it the discriminator has won outright, or its loss has jumped (Brock et al. 2018,
      section 4.2). The limit is absolute because the distance approaches 0 in good runs; good runs of these models
      stay below 24.
  """

  action: Literal["off", "warn", "stop"] = "warn"
  patience: int = 3
  history: int = 20
  grad_norm_factor: float = 10.0
  sigma_factor: float = 3.0
  margin_limit: float = 100.0

  def __post_init__(self) -> None:
    """Raises UserError for values out of range."""
    for name in ("patience", "history"):
      if getattr(self, name) < 1:
        raise UserError(f"config.health.{name}={getattr(self, name)} must be at least 1")
    for name in ("grad_norm_factor", "sigma_factor"):
      if not (getattr(self, name) == 0 or getattr(self, name) > 1):
        raise UserError(f"config.health.{name}={getattr(self, name)} must be above 1, or 0 for none")
    if not self.margin_limit >= 0:
      raise UserError(f"config.health.margin_limit={self.margin_limit} must not be negative; 0 for none")


@dataclass(frozen=True, kw_only=True)
class Collapse:
  """Evidence of a collapse.

  Attributes:
    step: last step of the window that completed the collapse.
    metric: metric that exceeds its limit by the largest factor.
    value: mean of the metric in that window.
    limit: limit of the metric.
    bad_windows: number of consecutive bad windows so far.
    good_step: last step of the last good window; the first step of the detector if there was none.
  """

  step: int
  metric: str
  value: float
  limit: float
  bad_windows: int
  good_step: int

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
    self._history: dict[str, list[float]] = {name: list(values) for name, values in state["history"].items()}

  def get_state(self) -> dict[str, Any]:
    """JSON-compatible state that determines all later results."""
    history = {name: list(values) for name, values in self._history.items()}
    return {"bad_windows": self._bad_windows, "good_step": self._good_step, "history": history}

  def check(self, step: int, means: Mapping[str, float]) -> Collapse | None:
    """Checks the means of the window that ended at `step`; returns the collapse while it lasts."""
    worst = max(self._exceeded(means), default=None)
    if worst is None:
      self._bad_windows, self._good_step = 0, step
      for name, value in means.items():
        if self._factor(name):
          self._history[name] = [*self._history.get(name, []), value][-self._config.history :]
      return None
    self._bad_windows += 1
    if self._bad_windows < self._config.patience:
      return None
    _, name, value, limit = worst
    bad_windows, good_step = self._bad_windows, self._good_step
    return Collapse(step=step, metric=name, value=value, limit=limit, bad_windows=bad_windows, good_step=good_step)

  def _exceeded(self, means: Mapping[str, float]) -> Iterator[tuple[float, str, float, float]]:
    """(value / limit, name, value, limit) of every metric above its limit."""
    for name, value in means.items():
      history = self._history.get(name, [])
      if (factor := self._factor(name)) and len(history) >= self._config.history:
        limit = factor * statistics.median(history[-self._config.history :])
        if value > limit:
          yield value / limit if limit else math.inf, name, value, limit
    if limit := self._config.margin_limit:
      for name, margin in _margins(means):
        if margin > limit:
          yield margin / limit, name, margin, limit

  def _factor(self, name: str) -> float:
    """Limit in medians; 0 for a metric that is not compared with its history."""
    factors = {"grad_norm": self._config.grad_norm_factor, "sigma_max": self._config.sigma_factor}
    return factors.get(name.rpartition("/")[2], 0.0)


def _margins(means: Mapping[str, float]) -> Iterator[tuple[str, float]]:
  """('{discriminator}/real - fake', distance) for every discriminator and kind of generated input."""
  for name, real in means.items():
    prefix, _, kind = name.rpartition("/")
    for generated in GENERATED:
      if kind == "real" and f"{prefix}/{generated}" in means:
        yield f"{prefix}/real - {generated}", abs(real - means[f"{prefix}/{generated}"])
