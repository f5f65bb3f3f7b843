"""The training loop on steps that only return metrics: a collapse, norms of nets, hooks that end the run."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest

from experiments import trivd_shape_motion
from vidgen_jax.core.state import TrainState
from vidgen_jax.parallel.processes import StopSignals
from vidgen_jax.runs.config import HealthConfig, from_config_dict
from vidgen_jax.runs.loop import CollapseError, Hook, NonFiniteMetricError, RunStart, TrainLoop, checkpoint_meta
from vidgen_jax.runs.monitor import MetricLog

GRADIENTS = (1.0, 1.0, 1.0, 20.0, 20.0, 20.0, 20.0, 1.0, 20.0, 20.0)
"""By step. With a median of 1, a factor of 10 and two bad windows there is a collapse at steps 5 to 7, and at 10."""


class _MetricsOnly:
  """An experiment whose steps have the gradient norms above, and nets of norm 3."""

  def __init__(self, *, log_every=1, **health):
    config = from_config_dict(trivd_shape_motion.get_config("smoke"))
    train = dataclasses.replace(config.train, num_steps=len(GRADIENTS), log_every=log_every)
    self.config = dataclasses.replace(config, train=train, health=HealthConfig(patience=2, history=3, **health))
    self.algorithm = types.SimpleNamespace(phase_at=lambda step: "main")
    self.gradients = GRADIENTS
    self.norms_computed = 0

  def compile_step(self, phase):
    def step(state, batch, constants):
      return state.replace(step=state.step + 1), {"gen/grad_norm": jnp.float32(self.gradients[int(state.step)])}

    return step

  def parameter_norms(self, nets):
    self.norms_computed += 1
    return {"generator/param_norm": jnp.float32(3.0)}

  def put_batch(self, batch, *, microbatches):
    return batch

  def step_constants(self, step, phase):
    return None


class _Batches:
  """The state is the number of batches."""

  def __init__(self):
    self.count = 0

  def __next__(self):
    self.count += 1
    return {}

  def get_state(self):
    return {"next_index": self.count}


def _run(experiment, *hooks, branch=None):
  """(rows by step, arguments of the saves)."""
  written, saves = {}, []
  checkpointer = types.SimpleNamespace(
    due=lambda step: False, save=lambda *args: saves.append(args), wait=lambda: None, steps=lambda: [2, 3, 4]
  )
  writer = types.SimpleNamespace(write_scalars=written.__setitem__, flush=lambda: None)
  progress = types.SimpleNamespace(update=lambda *_, **__: None, steps_per_second=lambda: None)
  log = MetricLog(experiment.config.train, writer, progress)
  state = TrainState(step=jnp.int32(0), key=None, nets={"generator": None}, opt_states={}, ema={})
  with jax.disable_jit():
    loop = TrainLoop(experiment, checkpointer, log, hooks, StopSignals(), {"name": "run", "branch": branch})
    loop.run(RunStart(state=state, step=0, iterator=_Batches()))
  return written, saves


@pytest.mark.parametrize(("action", "seen"), [("warn", [5, 10]), ("off", [])])
def test_a_collapse_is_one_warning(action, seen, caplog):
  written, _ = _run(_MetricsOnly(action=action))
  assert {step: means["gen/grad_norm"] for step, means in written.items()} == dict(enumerate(GRADIENTS, start=1))
  warnings = [line for line in caplog.messages if "may have collapsed" in line]
  assert len(warnings) == len(seen)
  for step, line in zip(seen, warnings, strict=True):
    good = 3 if step == 5 else 4
    assert f"gen/grad_norm is 20 at step {step}, above its limit of 10" in line
    assert f"last checkpoint before it: {good}; " in line
    assert f"--restore_step={good} --new_seed=1" in line


def test_a_collapse_ends_the_run_if_the_config_says_so():
  with pytest.raises(CollapseError, match=r"gen/grad_norm is 20 at step 5.* before it: 3; .* --restore_step=3"):
    _run(_MetricsOnly(action="stop"))


def test_a_run_that_collapsed_again_is_advised_to_use_another_seed():
  with pytest.raises(CollapseError, match="--restore_step=3 --new_seed=8"):
    _run(_MetricsOnly(action="stop"), branch=[2, 7])


@pytest.mark.parametrize("action", ["off", "warn", "stop"])
def test_a_metric_that_is_not_finite_always_ends_the_run(action):
  experiment = _MetricsOnly(action=action)
  experiment.gradients = (1.0, jnp.inf, *GRADIENTS)
  message = r"gen/grad_norm became inf at step 2; last good step 1, latest checkpoint 4; .* --restore_step=4 --new_seed"
  with pytest.raises(NonFiniteMetricError, match=message):
    _run(experiment)


@pytest.mark.parametrize(("log_every", "steps"), [(1, range(1, 11)), (4, (4, 8, 10))])
def test_norms_are_computed_only_where_they_are_written(log_every, steps):
  experiment = _MetricsOnly(log_every=log_every)
  written, _ = _run(experiment)
  assert {step: means["generator/param_norm"] for step, means in written.items()} == dict.fromkeys(steps, 3.0)
  assert experiment.norms_computed == len(steps)


class _EndsRun(Hook):
  """Runs every third step and ends the run at step 6."""

  def __init__(self):
    self.steps = []

  @property
  def finished(self):
    return 6 in self.steps

  def due(self, step):
    return step % 3 == 0

  def __call__(self, step, state, writer):
    self.steps.append(step)
    assert int(state.step) == step

  def get_state(self):
    return {"steps": self.steps}


def test_a_run_keeps_the_hash_of_its_first_clips():
  experiment, info = _MetricsOnly(), types.SimpleNamespace(class_names=("up",), content_hash="now")
  experiment.frozen_weights = {}
  for known, expected in (({}, "now"), ({"data_hash": "first"}, "first")):
    start = types.SimpleNamespace(meta=known, lineage={"seeds": [3]})
    meta = checkpoint_meta(experiment, start, info)
    assert (meta["data_hash"], meta["class_names"], meta["seeds"]) == (expected, ["up"], [3])


def test_a_finished_hook_ends_the_run_with_a_checkpoint():
  hook = _EndsRun()
  written, ((step, state, data_state, meta),) = _run(_MetricsOnly(action="off"), hook)
  assert hook.steps == [3, 6] and list(written) == [1, 2, 3, 4, 5, 6]
  assert (step, int(state.step), data_state) == (6, 6, {"next_index": 6})
  assert meta["hooks"] == {"_EndsRun": {"steps": [3, 6]}}
  assert (meta["name"], meta["step"], meta["detector"]["bad_windows"]) == ("run", 6, 3)
