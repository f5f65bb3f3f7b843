"""Windows of metrics: the means that are written, and equality of interrupted and uninterrupted runs."""

import json

import pytest

from vidgen_jax.runs.config import TrainConfig
from vidgen_jax.runs.hooks import MetricLog, MetricWindow, is_due


def _window(**train) -> MetricWindow:
  return MetricWindow(TrainConfig(**train))


def _written(window: MetricWindow, steps, values) -> dict[int, dict[str, float]]:
  return {step: means for step in steps if (means := window.add(step, values(step))) is not None}


def test_means_are_over_the_steps_that_have_the_metric():
  # "early" exists in steps 1 and 2, "late" in 3 to 5, "now" only where means are due.
  window = _window(log_every=3, num_steps=5)

  def values(step):
    return {"early" if step < 3 else "late": float(step)} | ({"now": 10.0 * step} if window.due(step) else {})

  expected = {3: {"early": 1.5, "late": 3.0, "now": 30.0}, 5: {"late": 4.5, "now": 50.0}}
  assert _written(window, range(1, 6), values) == expected
  assert [step for step in range(1, 6) if window.complete(step)] == [3]


def test_a_longer_run_completes_the_window_that_the_last_step_cut_short():
  first = _window(log_every=3, num_steps=5)
  assert _written(first, range(1, 6), lambda step: {"x": float(step)}) == {3: {"x": 2.0}, 5: {"x": 4.5}}
  second = _window(log_every=3, num_steps=6)
  second.set_state(json.loads(json.dumps(first.get_state())))
  assert _written(second, [6], lambda step: {"x": float(step)}) == {6: {"x": 5.0}}


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_restored_window_writes_what_an_uninterrupted_one_writes(cut):
  def values(step):
    return {"gen/loss": 0.1 * step}

  expected = _written(_window(log_every=3, num_steps=8), range(1, 9), values)
  assert list(expected) == [3, 6, 8]
  first, second = _window(log_every=3, num_steps=8), _window(log_every=3, num_steps=8)
  found = _written(first, range(1, cut + 1), values)
  second.set_state(json.loads(json.dumps(first.get_state())))
  assert found | _written(second, range(cut + 1, 9), values) == expected


def test_the_log_shows_every_step_and_writes_the_means_with_the_speed():
  calls = []

  class Writer:
    def write_scalars(self, step, scalars):
      calls.append(("write", step, scalars))

    def flush(self):
      calls.append("flush")

  class Progress:
    def update(self, step, *, metrics):
      calls.append(("show", step, metrics))

    def steps_per_second(self):
      return 4.0

  log = MetricLog(_window(log_every=2, num_steps=9), Writer(), Progress())
  assert log.add(1, {"x": 1.0}) is None
  assert log.add(2, {"x": 3.0}) == {"x": 2.0}
  log.flush()
  shown = [("show", 1, {"x": 1.0}), ("show", 2, {"x": 3.0})]
  assert calls == [*shown, ("write", 2, {"x": 2.0, "steps_per_second": 4.0}), "flush"]


def test_periodic_tasks_run_after_the_last_step_too():
  assert [step for step in range(1, 9) if is_due(step, 3, 8)] == [3, 6, 8]
  assert not any(is_due(step, 0, 8) for step in range(1, 9))
