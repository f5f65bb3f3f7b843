"""Windows of metrics: what is written, and that a run which is cut anywhere writes and decides the same."""

import dataclasses
import json

import pytest

from vidgen_jax.runs.config import ExperimentConfig, TrainConfig
from vidgen_jax.data.config import DataConfig
from vidgen_jax.runs.collapse import HealthConfig
from vidgen_jax.runs.health import Health


def _config(*, log_every: int, num_steps: int, **health) -> ExperimentConfig:
  return ExperimentConfig(
    name="test",
    algorithm_name="trivd",
    algorithm=None,
    data=DataConfig(name="none", num_frames=2, resolution=8),
    train=TrainConfig(log_every=log_every, num_steps=num_steps),
    health=HealthConfig(**health),
  )


def _run(health: Health, steps, values):
  """What is written and what is judged, by step."""
  written, judged = {}, {}
  for step in steps:
    if means := health.add(step, values(step)):
      written[step] = means
      if collapse := health.apply_discriminator(step, means):
        judged[step] = collapse
  return written, judged


def test_means_are_over_the_steps_that_have_the_metric():
  # "early" comes in steps 1 and 2, "late" in 3 to 5, "now" only where metrics are written.
  health = Health(_config(log_every=3, num_steps=5), 0)

  def values(step):
    return {"early" if step < 3 else "late": float(step)} | ({"now": 10.0 * step} if health.due(step) else {})

  written, _ = _run(health, range(1, 6), values)
  assert written == {3: {"early": 1.5, "late": 3.0, "now": 30.0}, 5: {"late": 4.5, "now": 50.0}}


def test_a_longer_run_takes_up_the_window_that_the_last_step_cut_short():
  config = _config(log_every=3, num_steps=5)
  first = Health(config, 0)
  assert _run(first, range(1, 6), lambda step: {"x": float(step)})[0] == {3: {"x": 2.0}, 5: {"x": 4.5}}
  longer = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=6))
  second = Health(longer, 5, saved=json.loads(json.dumps(first.state())))
  assert _run(second, [6], lambda step: {"x": float(step)})[0] == {6: {"x": 5.0}}


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_run_that_is_cut_anywhere_writes_and_decides_the_same(cut):
  # Windows of 3 steps, 0.1 each; from step 13 on 9, which is bad: two windows make the collapse, at step 18.
  config = _config(log_every=3, num_steps=20, history=2, patience=2)

  def values(step):
    return {"gen/grad_norm": 9.0 if step > 12 else 0.1 + 1e-3 * step}

  written, judged = _run(Health(config, 0), range(1, 21), values)
  assert list(written) == [3, 6, 9, 12, 15, 18, 20]
  assert list(judged) == [18]
  assert judged[18].good_step == 12
  first = Health(config, 0)
  before = _run(first, range(1, cut + 1), values)
  second = Health(config, cut, saved=json.loads(json.dumps(first.state())))
  after = _run(second, range(cut + 1, 21), values)
  assert (before[0] | after[0], before[1] | after[1]) == (written, judged)


def test_a_checkpoint_of_before_there_was_health_is_taken_for_good():
  config = _config(log_every=1, num_steps=9, patience=1, margin_limit=1.0)
  _, judged = _run(Health(config, 7), [8], lambda step: {"disc/real": 2.0, "disc/fake": 0.0})
  assert judged[8].good_step == 7
