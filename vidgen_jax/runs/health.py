"""A run's metrics between two writings: their means, and what these say of its health."""

from collections.abc import Mapping
from typing import Any

from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.collapse import Collapse, CollapseDetector


class Health:
  """Gathers metrics into windows and judges these.

  Its state is saved with every checkpoint, the begun window included: a run that is killed and continued writes and
  decides what an undisturbed one does.
  """

  def __init__(self, config: ExperimentConfig, first_step: int, *, saved: Mapping[str, Any] | None = None) -> None:
    """Continues from what `state` gave when `first_step` was saved; None begins anew."""
    self._train = config.train
    saved = saved or {}
    self._detector = CollapseDetector(config.health, first_step=first_step, saved=saved.get("detector"))
    self._window: dict[str, tuple[float, int]] = {name: tuple(x) for name, x in saved.get("window", {}).items()}

  def state(self) -> dict[str, Any]:
    """JSON-compatible."""
    window = {name: list(x) for name, x in self._window.items()}
    return {"window": window, "detector": self._detector.state()}

  def due(self, step: int) -> bool:
    """Whether metrics are written after `step` completed steps."""
    return self._ends(step) or step == self._train.num_steps

  def add(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
    """Takes a step's metrics.

    Args:
      step: completed train steps.
      values: finite; of a metric that comes in some steps only, these count.

    Returns:
      The means over the window that `step` belongs to, if they are to be written; call `judge` with them.
    """
    for name, value in values.items():
      total, count = self._window.get(name, (0.0, 0))
      self._window[name] = total + value, count + 1
    return {name: total / count for name, (total, count) in self._window.items()} if self.due(step) else None

  def not_finite(self, step: int, values: Mapping[str, float]) -> Collapse | None:
    """See `CollapseDetector.not_finite`; to be asked before `add`."""
    return self._detector.not_finite(step, values)

  def judge(self, step: int, means: Mapping[str, float]) -> Collapse | None:
    """Ends the window; returns the collapse as long as there is one. A run's last window may be cut short: it waits."""
    if not self._ends(step):
      return None
    self._window = {}
    return self._detector.judge(step, means)

  def _ends(self, step: int) -> bool:
    return step % self._train.log_every == 0
