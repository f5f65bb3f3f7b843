"""The loop on steps that only bring metrics: what it does with a collapse."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest

from experiments import trivd_shape_motion
from vidgen_jax.runs import config as configs
from vidgen_jax.core.state import TrainState
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.collapse import HealthConfig
from vidgen_jax.parallel.preemption import StopSignals
from vidgen_jax.runs.loop import CollapseError, NonFiniteMetricError, TrainLoop

GRADIENTS = (1.0, 1.0, 1.0, 20.0, 20.0, 20.0, 20.0, 1.0, 20.0, 20.0)
"""By step. With a median of 1, a factor of 10 and two bad windows there is a collapse at steps 5 to 7, and at 10."""


class _Metrics:
  """An experiment whose steps have the gradients above, and nets of norm 3."""

  def __init__(self, **health):
    config = configs.from_config_dict(trivd_shape_motion.get_config("smoke"))
    train = dataclasses.replace(config.train, num_steps=len(GRADIENTS), log_every=1)
    self.config = dataclasses.replace(config, train=train, health=HealthConfig(patience=2, history=3, **health))
    self.algorithm = types.SimpleNamespace(phase_at=lambda step: "main")
    self.abstract_state = self.batch_shape = None
    self.gradients = GRADIENTS
    self.times_asked = 0

  def compile_step(self, phase):
    return Experiment.compile_step(self, phase)

  def step_fn(self, phase):
    def step(state, batch, constants):
      return state.replace(step=state.step + 1), {"gen/grad_norm": jnp.float32(self.gradients[int(state.step)])}

    return step

  def net_health(self, nets):
    self.times_asked += 1
    return {"generator/param_norm": jnp.float32(3.0)}

  def put_batch(self, batch, *, microbatches):
    return batch

  def step_constants(self, step, phase):
    return None


class _Batches:
  """Places are numbers of batches."""

  def __init__(self):
    self.place = 0

  def __next__(self):
    self.place += 1
    return {}

  def get_state(self):
    return {"next_index": self.place}


def _run(experiment):
  """What is written, by step."""
  written = {}
  checkpointer = types.SimpleNamespace(
    due=lambda step: False, save=lambda *_: None, wait=lambda: None, steps=lambda: [2, 3, 4]
  )
  hooks = types.SimpleNamespace(
    due=lambda step: False, metrics=lambda *_: None, write=written.__setitem__, flush=lambda: None
  )
  state = TrainState(step=jnp.int32(0), key=None, nets={"generator": None}, opt_states={}, ema={})
  with jax.disable_jit():
    TrainLoop(experiment, checkpointer, _Batches(), hooks, StopSignals(), {}).run(state, 0)
  return written


@pytest.mark.parametrize(("action", "seen"), [("warn", [5, 10]), ("off", [])])
def test_a_warning_is_one_line_for_each_collapse(action, seen, caplog):
  written = _run(_Metrics(action=action))
  assert {step: means["gen/grad_norm"] for step, means in written.items()} == dict(enumerate(GRADIENTS, start=1))
  warnings = [line for line in caplog.messages if "may have collapsed" in line]
  assert len(warnings) == len(seen)
  for step, line in zip(seen, warnings, strict=True):
    assert f"gen/grad_norm is 20 at step {step}, above its limit of 10" in line
    assert f"last checkpoint from before: {3 if step == 5 else 4}; " in line


@pytest.mark.parametrize("action", ["stop", "roll_back"])
def test_a_collapse_ends_the_loop_with_the_place_of_its_last_batch(action):
  with pytest.raises(CollapseError, match=r"gen/grad_norm is 20 at step 5.* from before: 3") as error:
    _run(_Metrics(action=action))
  assert (error.value.collapse.step, error.value.collapse.good_step) == (5, 3)
  # One batch a step, whatever was read ahead.
  assert error.value.place == {"next_index": 5}


@pytest.mark.parametrize("action", ["off", "warn", "stop", "roll_back"])
def test_what_is_not_finite_always_ends_it(action):
  experiment = _Metrics(action=action)
  experiment.gradients = (1.0, jnp.inf, *GRADIENTS)
  with pytest.raises(NonFiniteMetricError, match=r"gen/grad_norm became inf at step 2; last good step 1") as error:
    _run(experiment)
  assert (error.value.collapse.good_step, error.value.place) == (1, {"next_index": 2})


@pytest.mark.parametrize(("log_every", "steps"), [(1, range(1, 11)), (4, (4, 8, 10))])
def test_nets_are_looked_at_in_steps_that_are_written(log_every, steps):
  experiment = _Metrics()
  train = dataclasses.replace(experiment.config.train, log_every=log_every)
  experiment.config = dataclasses.replace(experiment.config, train=train)
  written = _run(experiment)
  assert {step: means["generator/param_norm"] for step, means in written.items()} == dict.fromkeys(steps, 3.0)
  assert experiment.times_asked == len(steps)
