"""Durations of steps, on a fake clock."""

import itertools

import jax.numpy as jnp
import pytest

from vidgen_jax.bench import step_timing
from vidgen_jax.bench.step_timing import StepTiming
from vidgen_jax.core.state import TrainState
from vidgen_jax.runs.monitor import MetricLog

pytest_plugins = ("tests.tiny_experiment", "tests.fake_clock")


def test_the_loop_is_timed_with_its_metrics_and_the_bare_step_without(tiny, clock, monkeypatch):
  experiment = tiny()

  metrics = {"disc/loss": jnp.zeros(())}

  def step(state, batch, constants):
    clock.now += 1.0
    return state, metrics

  def add(self, step, values):
    clock.now += 5.0

  monkeypatch.setattr(MetricLog, "add", add)
  state = TrainState(step=jnp.int32(0), key=None, nets={}, opt_states={}, ema={})
  batches = itertools.repeat(step_timing.noise(experiment))
  timing = step_timing.time_steps(experiment, step, state, batches, steps=8, first_step=0)
  assert timing == StepTiming(bare=1.0, fastest=1.0, loop=6.0)


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_step_is_not_timed(count, clock):
  calls = []

  def step(state, batch, constants):
    calls.append(state)
    clock.now += 10.0 if state == 0 else float(state)
    return state + 1, {"loss": jnp.zeros(())}

  state, seconds = step_timing.timed_steps(step, 0, None, {}, count)
  assert calls == list(range(1 + count))
  assert (state, seconds) == (1 + count, [float(i) for i in range(1, 1 + count)])


def test_medians_and_minimum():
  assert StepTiming.from_seconds([3.0, 1.0, 2.0]) == StepTiming(bare=2.0, fastest=1.0)
  assert StepTiming.from_seconds([1.0], loop=[4.0, 2.0, 9.0]).loop == 4.0


def test_noise_has_the_shapes_of_a_batch(tiny):
  made = tiny()
  batch = step_timing.noise(made)
  assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
    name: (x.shape, x.dtype) for name, x in made.batch_shape().items()
  }
  assert (batch["video"].min(), batch["video"].max()) == (0, 255)
  assert not batch["label"].any()
