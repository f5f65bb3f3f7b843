"""Times of steps that sleep: what is in a timing, and who takes turns with whom."""

import time
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.bench import step_timing
from vidgen_jax.core.state import TrainState

pytest_plugins = ("tests.tiny_experiment",)


class _SlowInput:
  """Yields a batch after a while, as an iterator of the pipeline."""

  def __init__(self, shapes, seconds: float):
    self._batch = {name: np.zeros(x.shape, x.dtype) for name, x in shapes.items()}
    self._seconds = seconds

  def __iter__(self) -> Iterator:
    return self

  def __next__(self):
    time.sleep(self._seconds)
    return self._batch


def test_the_loop_is_timed_with_its_input_and_the_bare_step_without(tiny):
  made = tiny(train__log_every=1)

  metrics = {"disc/loss": jnp.zeros(())}

  def instant(state, batch, constants):
    return state, metrics

  state = TrainState(step=jnp.int32(0), key=None, nets={}, opt_states={}, ema={})
  slow = _SlowInput(made.batch_shape(), 0.05)
  timing = step_timing.time_steps(made, instant, state, slow, steps=8, first_step=0)
  assert timing.fastest <= timing.bare < 0.05 <= timing.loop


class _Steps:
  """A step that takes so many seconds, and notes its name and state each time it is called."""

  def __init__(self, name: str, seconds: float, calls: list):
    self._name, self._seconds, self._calls = name, seconds, calls

  def __call__(self, state, batch, constants):
    self._calls.append((self._name, state))
    time.sleep(self._seconds)
    return state + 1, {"loss": jnp.zeros(())}


@pytest.mark.parametrize("steps", [1, 3])
def test_a_bare_step_is_warmed_up_once(steps):
  calls = []
  timing = step_timing.time_bare_steps(_Steps("a", 0.02, calls), 0, None, {}, steps=steps)
  assert calls == [("a", i) for i in range(1 + steps)]
  assert 0.015 < timing.fastest <= timing.bare
  assert timing.loop is None


def test_steps_take_turns_and_every_turn_begins_with_an_untimed_one():
  calls = []
  steps = [_Steps("a", 0.0, calls), _Steps("b", 0.03, calls)]
  first, second = step_timing.time_in_turns(steps, [0, 100], None, [{}, {}], steps=6)
  # Four windows of two timed steps.
  assert [name for name, _ in calls] == (["a"] * 3 + ["b"] * 3) * 4
  assert [state for name, state in calls if name == "b"] == list(range(100, 112))
  assert first.bare < 0.02 < second.fastest <= second.bare


def test_the_first_step_of_a_turn_does_not_count():
  def warming_up(state, batch, constants):
    time.sleep(0.05 if state % 2 == 0 else 0.0)
    return state + 1, {"loss": jnp.zeros(())}

  # Two windows of one timed step each: calls 0 and 2 warm up, calls 1 and 3 count.
  (turns,) = step_timing.time_in_turns([warming_up], [0], None, [{}], steps=2)
  once = step_timing.time_bare_steps(warming_up, 0, None, {}, steps=1)
  assert max(turns.bare, once.bare) < 0.025


def test_fewer_steps_than_windows_are_as_many_windows():
  calls = []
  step_timing.time_in_turns([_Steps("a", 0.0, calls), _Steps("b", 0.0, calls)], [0, 0], None, [{}, {}], steps=1)
  assert [name for name, _ in calls] == ["a", "a", "b", "b"]


def test_noise_has_the_shapes_of_a_batch(tiny):
  made = tiny()
  batch = step_timing.noise(made)
  assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
    name: (x.shape, x.dtype) for name, x in made.batch_shape().items()
  }
  assert (batch["video"].min(), batch["video"].max()) == (0, 255)
  assert not batch["label"].any()
