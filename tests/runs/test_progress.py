"""Progress: rates without the compiling step, a bar on a terminal, plain lines elsewhere."""

import io
import logging as python_logging
import sys

import pytest
from absl import logging

from vidgen_jax.runs.progress import Progress


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
  level = logging.get_verbosity()
  logging.set_verbosity(logging.INFO)
  logging.get_absl_logger().addHandler(handler)
  yield found
  logging.get_absl_logger().removeHandler(handler)
  logging.set_verbosity(level)


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
    # 7 steps left at 2 steps/s are 3.5 s; Python rounds halves to the even second.
    assert progress.describe() == "2 steps/s, 32 clips/s, 0:04 left, psnr 20.12, loss 1"


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
  level = logging.get_verbosity()
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
    logging.set_verbosity(level)
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
