"""Metrics on the host: windows of means, progress and speed, and the collapse detector."""

import io
import json
import logging as python_logging
import math
import sys
import types

import pytest
from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import HealthConfig, TrainConfig
from vidgen_jax.runs.monitor import CollapseDetector, MetricLog, Progress, is_due


def _log(**train) -> MetricLog:
  writer = types.SimpleNamespace(write_scalars=lambda step, scalars: None)
  progress = types.SimpleNamespace(update=lambda step, *, metrics: None, steps_per_second=lambda: None)
  return MetricLog(TrainConfig(**train), writer, progress)


def _written(log: MetricLog, steps, values) -> dict[int, dict[str, float]]:
  return {step: means for step in steps if (means := log.add(step, values(step))) is not None}


def test_means_are_over_the_steps_that_have_the_metric():
  # "early" exists in steps 1 and 2, "late" in 3 to 5, "now" only where means are due.
  log = _log(log_every=3, num_steps=5)

  def values(step):
    return {"early" if step < 3 else "late": float(step)} | ({"now": 10.0 * step} if log.due(step) else {})

  expected = {3: {"early": 1.5, "late": 3.0, "now": 30.0}, 5: {"late": 4.5, "now": 50.0}}
  assert _written(log, range(1, 6), values) == expected
  assert [step for step in range(1, 6) if log.complete(step)] == [3]


def test_a_longer_run_completes_the_window_that_the_last_step_cut_short():
  first = _log(log_every=3, num_steps=5)
  assert _written(first, range(1, 6), lambda step: {"x": float(step)}) == {3: {"x": 2.0}, 5: {"x": 4.5}}
  second = _log(log_every=3, num_steps=6)
  second.set_state(json.loads(json.dumps(first.get_state())))
  assert _written(second, [6], lambda step: {"x": float(step)}) == {6: {"x": 5.0}}


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_restored_window_writes_what_an_uninterrupted_one_writes(cut):
  def values(step):
    return {"gen/loss": 0.1 * step}

  expected = _written(_log(log_every=3, num_steps=8), range(1, 9), values)
  assert list(expected) == [3, 6, 8]
  first, second = _log(log_every=3, num_steps=8), _log(log_every=3, num_steps=8)
  found = _written(first, range(1, cut + 1), values)
  second.set_state(json.loads(json.dumps(first.get_state())))
  assert found | _written(second, range(cut + 1, 9), values) == expected


def test_the_log_shows_every_step_and_writes_the_means_with_the_speed():
  calls = []

  class Writer:
    def write_scalars(self, step, scalars):
      calls.append(("write", step, scalars))

  class Progress:
    def update(self, step, *, metrics):
      calls.append(("show", step, metrics))

    def steps_per_second(self):
      return 4.0

  log = MetricLog(TrainConfig(log_every=2, num_steps=9), Writer(), Progress())
  assert log.add(1, {"x": 1.0}) is None
  assert log.add(2, {"x": 3.0}) == {"x": 2.0}
  shown = [("show", 1, {"x": 1.0}), ("show", 2, {"x": 3.0})]
  assert calls == [*shown, ("write", 2, {"x": 2.0, "steps_per_second": 4.0})]


def test_periodic_tasks_run_after_the_last_step_too():
  assert [step for step in range(1, 9) if is_due(step, 3, 8)] == [3, 6, 8]
  assert not any(is_due(step, 0, 8) for step in range(1, 9))


class _Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self) -> float:
    return self.now


class _Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


@pytest.fixture
def lines():
  """The messages logged through absl."""
  found = []
  handler = python_logging.Handler()
  handler.emit = lambda record: found.append(record.getMessage())
  logging.set_verbosity(logging.INFO)
  logging.get_absl_logger().addHandler(handler)
  yield found
  logging.get_absl_logger().removeHandler(handler)


def test_rates_leave_the_compiling_step_out():
  clock = _Clock()
  with Progress(10, clips_per_step=16, clock=clock, stream=io.StringIO(), interval_s=1e9) as progress:
    clock.now += 60.0
    progress.update(1)
    assert progress.steps_per_second() is None
    for step in (2, 3):
      clock.now += 0.5
      progress.update(step, metrics={"psnr": 20.123456, "loss": 1.0})
    assert progress.steps_per_second() == pytest.approx(2.0)
    # 7 steps left at 2 steps/s are 3.5 s.
    assert progress.describe() == "2 steps/s, 32 clips/s, 00:03 left, psnr 20.12, loss 1"


def test_rate_is_that_of_the_last_hundred_steps():
  clock = _Clock()
  progress = Progress(1000, clock=clock, stream=io.StringIO(), interval_s=1e9)
  for step in range(1, 301):
    clock.now += 10.0 if step <= 200 else 0.1
    progress.update(step)
  assert progress.steps_per_second() == pytest.approx(10.0)


def test_long_times_and_chosen_metrics():
  clock = _Clock()
  progress = Progress(3727, shown=["b", "absent", "a"], clock=clock, stream=io.StringIO(), interval_s=1e9)
  progress.update(1)
  clock.now += 1.0
  progress.update(2, metrics={"a": 1.0, "b": 2.0, "c": 3.0})
  assert progress.describe() == "1 steps/s, 1:02:05 left, b 2, a 1"


def test_plain_lines_come_every_interval_and_at_the_end(lines):
  clock = _Clock()
  stream = io.StringIO()
  with Progress(50, initial_step=8, interval_s=10.0, clock=clock, stream=stream) as progress:
    for step in range(9, 15):
      clock.now += 4.0
      progress.update(step, metrics={"loss": step})
  # Updates at 4, 8, 12 (line), 16, 20, 24 (line) seconds; the last line is not said twice.
  assert [line.split(",")[0] for line in lines] == ["step 11/50 (22 %) 0.25 steps/s", "step 14/50 (28 %) 0.25 steps/s"]
  assert stream.getvalue() == "" and not any("\r" in line for line in lines)


def test_the_last_step_is_said(lines):
  with Progress(4, interval_s=1e9, stream=io.StringIO()) as progress:
    progress.update(4, metrics={"loss": 0.5})
  assert lines == ["step 4/4 (100 %) loss 0.5"]


def test_a_terminal_gets_a_bar_and_log_lines_above_it(monkeypatch):
  terminal = _Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  logging.set_verbosity(logging.INFO)
  # Outside `absl.app.run`, as here, absl's handler is not in use.
  python_logging.root.addHandler(logging.get_absl_handler())
  try:
    with Progress(20, initial_step=10) as progress:
      progress.update(11)
      logging.info("saved a checkpoint")
      progress.update(20, metrics={"psnr": 21.5})
  finally:
    python_logging.root.removeHandler(logging.get_absl_handler())
    assert "emit" not in vars(logging.get_absl_handler().python_handler)
  shown = terminal.getvalue()
  assert "10/20" in shown and "20/20" in shown and "psnr 21.5" in shown
  (line,) = [part for part in shown.replace("\r", "\n").split("\n") if "saved a checkpoint" in part]
  assert "|" not in line


def test_other_processes_show_nothing(lines):
  terminal = _Terminal()
  with Progress(4, enabled=False, stream=terminal) as progress:
    progress.update(4)
  assert terminal.getvalue() == "" and not lines


# The collapse detector on windows of ten steps; medians, limits and decisions are derived in the comments.
GRAD, SIGMA = "gen/grad_norm", "generator/sigma_max"


def _check(windows, **config):
  """The result of every window."""
  detector = CollapseDetector(HealthConfig(**{"history": 3, "patience": 2} | config))
  return [detector.check(10 * number, window) for number, window in enumerate(windows, start=1)]


def _gradients(*norms: float):
  return [{GRAD: norm} for norm in norms]


def test_consecutive_bad_windows_are_a_collapse_and_stay_out_of_the_history():
  # The median of 1, 2, 9 is 2, the limit 20. 21 and 30 are bad; had 21 entered the history (2, 9, 21), 30 would be
  # good, below 90. The collapse lasts until a good window.
  *before, first, second, after = _check(_gradients(1, 2, 9, 21, 30, 30, 20))
  assert before == [None] * 4
  assert (first.step, first.metric, first.value, first.limit) == (50, GRAD, 30, 20)
  assert (first.bad_windows, first.good_step) == (2, 30)
  assert (second.step, second.bad_windows, second.good_step) == (60, 3, 30)
  assert after is None
  assert str(first) == "gen/grad_norm is 30 at step 50, above its limit of 20; the last good window ended at step 30"


def test_single_spikes_are_ignored():
  assert _check(_gradients(1, 1, 1, 99, 1, 99, 1, 99)) == [None] * 8


def test_the_history_holds_the_last_windows_only():
  # Each window is 9 times the median of the three before: 1, 1, 1 -> 9; 1, 1, 9 -> 9; 1, 9, 9 -> 81; 9, 9, 81 -> 81.
  assert _check(_gradients(1, 1, 1, 9, 9, 81, 81), patience=1) == [None] * 7
  # 9, 81, 81: the limit is 810.
  assert _check(_gradients(1, 1, 1, 9, 9, 81, 81, 811), patience=1)[-1].limit == 810


def test_metrics_without_a_full_history_are_not_checked():
  assert _check(_gradients(1, 1, 1e9, 1), patience=1) == [None] * 4
  # A metric of a later phase starts its own history.
  windows = [*_gradients(1, 1, 1), {"clip_gen/grad_norm": 500.0}, {"clip_gen/grad_norm": 9e9}]
  assert _check(windows, patience=1) == [None] * 5


def test_the_worst_metric_is_reported():
  # Sigma is 3 / 2 = 1.5 times its limit, the gradient 12 / 10 = 1.2 times.
  windows = [{GRAD: 1.0, SIGMA: 1.0}] * 3 + [{GRAD: 12.0, SIGMA: 3.0}]
  assert _check(windows, patience=1, sigma_factor=2.0)[-1].metric == SIGMA
  assert _check(windows, patience=1, sigma_factor=0.0)[-1].metric == GRAD
  assert _check(windows, patience=1, sigma_factor=0.0, grad_norm_factor=0.0)[-1] is None


def test_other_metrics_have_no_limit():
  windows = [{"gen/loss": 1.0, "generator/param_norm": 1.0, "generator/sigma_mean": 1.0}] * 3
  windows += [{"gen/loss": 1e9, "generator/param_norm": 1e9, "generator/sigma_mean": 1e9}]
  assert _check(windows, patience=1) == [None] * 4


@pytest.mark.parametrize(
  ("means", "metric"),
  [
    ({"disc/frame_disc/real": 60.0, "disc/frame_disc/fake": -41.0}, "disc/frame_disc/real - fake"),
    ({"disc/frame_disc/real": -60.0, "disc/frame_disc/fake": 41.0}, "disc/frame_disc/real - fake"),
    ({"image_disc/real": 0.0, "image_disc/decoded": 1.0, "image_disc/drawn": 101.0}, "image_disc/real - drawn"),
    ({"image_disc/real": 0.0, "image_disc/decoded": -101.0, "image_disc/drawn": 1.0}, "image_disc/real - decoded"),
    # A distance of 99; and outputs of different discriminators.
    ({"disc/frame_disc/real": 60.0, "disc/frame_disc/fake": -39.0}, None),
    ({"disc/a/real": 200.0, "disc/b/fake": -200.0}, None),
  ],
)
def test_distant_discriminator_outputs(means, metric):
  (collapse,) = _check([means], patience=1)
  assert (collapse and collapse.metric) == metric
  if collapse:
    assert (collapse.value, collapse.limit, collapse.good_step) == (101.0, 100.0, 0)
    assert _check([means], patience=1, margin_limit=0.0) == [None]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_restored_detector_gives_the_results_of_an_uninterrupted_one(cut):
  windows = _gradients(1, 2, 9, 21, 30, 5, 51, 52)
  config = HealthConfig(history=3, patience=2)
  uninterrupted = CollapseDetector(config)
  expected = [uninterrupted.check(10 * n, window) for n, window in enumerate(windows, start=1)]
  assert [n for n, found in enumerate(expected) if found] == [4, 7]  # 5 above 20; 51 and 52 above the 50 of 2, 9, 5
  first = CollapseDetector(config)
  found = [first.check(10 * n, window) for n, window in enumerate(windows[:cut], start=1)]
  second = CollapseDetector(config, first_step=99, saved=json.loads(json.dumps(first.get_state())))
  found += [second.check(10 * n, window) for n, window in enumerate(windows[cut:], start=cut + 1)]
  assert found == expected
  assert second.get_state() == uninterrupted.get_state()


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("grad_norm_factor", 1.0, "grad_norm_factor=1.0 must be above 1, or 0 for none"),
    ("sigma_factor", math.nan, "sigma_factor=nan must be above 1, or 0 for none"),
    ("margin_limit", -1.0, "margin_limit=-1.0 must not be negative; 0 for none"),
  ],
)
def test_values_out_of_range_are_named(name, value, message):
  with pytest.raises(UserError) as error:
    HealthConfig(**{name: value})
  assert str(error.value) == f"config.health.{message}"
