"""When a training's metrics look like a collapse, from which a GAN does not come back by itself."""

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidgen_jax.errors import UserError

GENERATED = ("fake", "decoded", "drawn")
"""How algorithms call a discriminator's mean output on generated input, beside 'real'."""


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
  """What counts as a collapse, and what is done then.

  Judged are means over windows, the steps between two writings of metrics (`train.log_every`); sigmas are of a window's
  last step. A window is bad if a rule says so; `patience` bad windows in a row are a collapse. A metric that is not
  finite is one at once. A rule whose number is 0 is off. Mode collapse is not seen: these metrics do not show it.

  Attributes:
    action: 'warn' logs a line; 'stop' ends the run; 'roll_back' goes back to the last checkpoint from before the first
      bad window, with another seed; 'off' does nothing. Unless it rolls back, a metric that is not finite ends the run.
    max_rollbacks: over the whole run; the next collapse ends it.
    patience: bad windows in a row that make a collapse.
    history: good windows whose median a metric is compared with; it is not compared before there are so many.
    grad_norm_factor: the norm of an update's gradients is bad above so many medians.
    sigma_factor: the largest singular value of a net's kernels is bad above so many medians: the generator's explodes
      at collapse, the discriminator's jumps (Brock et al. 2018, sections 4.1 and 4.2).
    margin_limit: a discriminator's mean outputs on real and on generated inputs are bad if they lie further apart, in
      whichever order: it has won outright, or its loss has jumped (section 4.2). An absolute number, since the distance
      goes towards 0 in good runs; up to 24 in ours.
  """

  action: Literal["off", "warn", "stop", "roll_back"] = "warn"
  max_rollbacks: int = 3
  patience: int = 3
  history: int = 20
  grad_norm_factor: float = 10.0
  sigma_factor: float = 3.0
  margin_limit: float = 100.0

  def __post_init__(self) -> None:
    """Raises UserError for numbers that cannot be meant."""
    for name in ("max_rollbacks", "patience", "history"):
      if getattr(self, name) < 1:
        raise UserError(f"config.health.{name}={getattr(self, name)} must be at least 1")
    for name in ("grad_norm_factor", "sigma_factor"):
      if not (getattr(self, name) == 0 or getattr(self, name) > 1):
        raise UserError(f"config.health.{name}={getattr(self, name)} must be above 1, or 0 for none")
    if not self.margin_limit >= 0:
      raise UserError(f"config.health.margin_limit={self.margin_limit} must not be negative; 0 for none")


@dataclass(frozen=True, kw_only=True)
class Collapse:
  """Why a training is taken to have collapsed.

  Attributes:
    step: the last step of the window that decided it, or the step whose metric is not finite.
    metric: the one that is furthest off.
    value: in that window.
    limit: that it exceeds; None for a value that is not finite.
    bad_windows: in a row, so far.
    good_step: the last step of the last good window; 0 if there was none.
  """

  step: int
  metric: str
  value: float
  limit: float | None
  bad_windows: int
  good_step: int

  def __str__(self) -> str:
    if self.limit is None:
      return f"metric {self.metric} became {self.value} at step {self.step}"
    found = f"{self.metric} is {self.value:.4g} at step {self.step}, above its limit of {self.limit:.4g}"
    return f"{found}, and all was well until step {self.good_step}"


class CollapseDetector:
  """Judges one window after the other. Python floats on the host; the same on every process of a job."""

  def __init__(self, config: HealthConfig, *, first_step: int = 0, saved: Mapping[str, Any] | None = None) -> None:
    """Continues from what `state` gave; without it all is well at `first_step` and nothing is known of before."""
    self._config = config
    saved = {"bad_windows": 0, "good_step": first_step, "history": {}} | dict(saved or {})
    self._bad_windows: int = saved["bad_windows"]
    self._good_step: int = saved["good_step"]
    self._history: dict[str, list[float]] = {name: list(values) for name, values in saved["history"].items()}

  def state(self) -> dict[str, Any]:
    """All that later judgements depend on; JSON-compatible."""
    history = {name: list(values) for name, values in self._history.items()}
    return {"bad_windows": self._bad_windows, "good_step": self._good_step, "history": history}

  def judge(self, step: int, means: Mapping[str, float]) -> Collapse | None:
    """Takes the window that ended with `step`; returns the collapse as long as there is one."""
    bad = max(self._exceeded(means), default=None)
    if bad is None:
      self._bad_windows, self._good_step = 0, step
      for name, value in means.items():
        if self._factor(name):
          self._history[name] = [*self._history.get(name, []), value][-self._config.history :]
      return None
    self._bad_windows += 1
    if self._bad_windows < self._config.patience:
      return None
    _, name, value, limit = bad
    return self._collapse(step, name, value, limit)

  def not_finite(self, step: int, metrics: Mapping[str, float]) -> Collapse | None:
    """The collapse that one step's metrics are by themselves, if one of them is NaN or infinite."""
    for name, value in metrics.items():
      if not math.isfinite(value):
        return self._collapse(step, name, value, None)
    return None

  def _collapse(self, step: int, name: str, value: float, limit: float | None) -> Collapse:
    bad_windows, good_step = self._bad_windows, self._good_step
    return Collapse(step=step, metric=name, value=value, limit=limit, bad_windows=bad_windows, good_step=good_step)

  def _exceeded(self, means: Mapping[str, float]) -> Iterator[tuple[float, str, float, float]]:
    """(value / limit, name, value, limit) of whatever is above its limit."""
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
    """How many medians the metric may reach; 0 if it is not compared with its history."""
    kinds = {"grad_norm": self._config.grad_norm_factor, "sigma_max": self._config.sigma_factor}
    return kinds.get(name.rpartition("/")[2], 0.0)


def _margins(means: Mapping[str, float]) -> Iterator[tuple[str, float]]:
  """('{discriminator}/real - fake', distance) of every discriminator's mean outputs."""
  for name, real in means.items():
    prefix, _, kind = name.rpartition("/")
    for generated in GENERATED:
      if kind == "real" and f"{prefix}/{generated}" in means:
        yield f"{prefix}/real - {generated}", abs(real - means[f"{prefix}/{generated}"])
