"""Trainings that collapse, on purpose: roll backs, their limit, and kills in the midst of them."""

import dataclasses
import json
import shutil
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import trivd_shape_motion
from tests.tiny_experiment import TINY
from vidgen_jax.commands.train import train
from vidgen_jax.errors import UserError
from vidgen_jax.runs import config as configs
from vidgen_jax.runs.experiment import Experiment, build_experiment
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.health import Health
from vidgen_jax.runs.hooks import Hooks
from vidgen_jax.runs.loop import CollapseError, NonFiniteMetricError
from vidgen_jax.runs.rollbacks import ROLLBACKS_FILE, Rollbacks

pytest_plugins = ["tests.trained_runs"]
CLIPS = 3 * TINY["train.batch_size"]
"""Of a step."""


class _Killed(BaseException):
  """Stands for `kill -9`."""


@pytest.fixture(scope="module")
def config(run_config) -> ExperimentConfig:
  """Eight steps of the tiny experiment, a checkpoint every second; three bad windows of a step are a collapse."""
  config = trivd_shape_motion.get_config("smoke")
  config.update_from_flattened_dict(TINY | {"data.data_dir": run_config.data.data_dir, "train.num_steps": 8})
  config.train.update({"log_every": 1, "checkpoint_every": 2, "image_every": 0, "evaluate_every": 0})
  config.health.update({"action": "roll_back", "patience": 3, "history": 2, "max_rollbacks": 2})
  return configs.from_config_dict(config)


@pytest.fixture(scope="module", autouse=True)
def one_program():
  """All runs here have the same train step, which is compiled once."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Experiment, "_compiled", {})
    yield


@pytest.fixture
def spike(monkeypatch):
  """Puts a value in the place of a gradient's norm: {(step, roll backs so far): value}."""
  original = Health.not_finite

  def spike(workdir: Path, values: dict[tuple[int, int], float]) -> None:
    def not_finite(self, step, metrics):
      metrics["gen/grad_norm"] = values.get((step, len(_records(workdir))), metrics["gen/grad_norm"])
      return original(self, step, metrics)

    monkeypatch.setattr(Health, "not_finite", not_finite)

  return spike


SPIKES = {(step, 0): 1e9 for step in (5, 6, 7)}
"""Bad windows from step 5 on, so good ones up to 4; the collapse is seen at 7, when 2, 4 and 6 are saved."""


def _records(workdir: Path) -> list[dict]:
  path = workdir / ROLLBACKS_FILE
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _losses(workdir: Path) -> list[tuple[int, float]]:
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [(line["step"], line["disc/loss"]) for line in lines]


def _saved(workdir: Path, step: int, config: ExperimentConfig) -> tuple[dict[str, np.ndarray], dict, dict]:
  """Every array of a checkpoint, by path; the place of the data, and meta data."""
  places = []
  iterator = types.SimpleNamespace(set_state=places.append)
  with Checkpointer(str(workdir), read_only=True) as checkpointer:
    restored = checkpointer.restore(build_experiment(config).abstract_state, step=step, iterator=iterator)
  state = restored.state.replace(key=jax.random.key_data(restored.state.key))
  arrays = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}
  return arrays, places[-1], restored.meta


def _assert_same_run(first: Path, second: Path, config: ExperimentConfig) -> None:
  (expected, *expected_rest), (found, *rest) = (_saved(workdir, 8, config) for workdir in (first, second))
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert rest == expected_rest
  assert _losses(first) == _losses(second)
  untimed = [[{**record, "time": None} for record in _records(workdir)] for workdir in (first, second)]
  assert untimed[0] == untimed[1]


@pytest.fixture(scope="module")
def rolled_back(config, tmp_path_factory):
  """A run that is rolled back once, to step 4."""
  workdir = tmp_path_factory.mktemp("rolled_back")
  with pytest.MonkeyPatch.context() as patch:
    spike.__wrapped__(patch)(workdir, SPIKES)
    train(config, str(workdir))
  return workdir


def test_a_roll_back_goes_on_from_the_last_good_checkpoint_with_another_seed(config, rolled_back, tmp_path, caplog):
  (record,) = _records(rolled_back)
  assert {name: record[name] for name in ("count", "checkpoint", "step", "good_step")} == {
    "count": 1,
    "checkpoint": 4,
    "step": 7,
    "good_step": 4,
  }
  assert (record["metric"], record["value"], record["place"]) == ("gen/grad_norm", 1e9, {"next_index": 7 * CLIPS})
  assert [step for step, _ in _losses(rolled_back)] == list(range(1, 9))
  arrays, place, meta = _saved(rolled_back, 8, config)
  assert meta["rollbacks"] == 1
  assert place == {"next_index": 11 * CLIPS}  # seven steps to the collapse, four from step 4 to the end
  # The same from the description: step 4 of a run without a collapse, another key, the clips behind those of step 7.
  train(dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=4)), str(tmp_path))
  before, *_ = _saved(tmp_path, 4, config)
  key = jax.random.fold_in(jax.random.wrap_key_data(before[".key"]), 1)
  np.testing.assert_array_equal(arrays[".key"], jax.random.key_data(key))
  assert _losses(tmp_path) == _losses(rolled_back)[:4]
  with Checkpointer(str(rolled_back), read_only=True) as checkpointer:
    assert checkpointer.steps() == [4, 6, 8]


@pytest.mark.parametrize("moment", ["in the bad windows", "before it goes back", "after it went back"])
def test_a_kill_at_any_moment_loses_nothing(moment, config, rolled_back, tmp_path, spike, monkeypatch):
  start, metrics = Rollbacks.start, Hooks.metrics

  def killed_before(self, *arguments):
    if len(self):
      raise _Killed
    return start(self, *arguments)

  def killed_in_step(self, step, values):
    metrics(self, step, values)
    if (step, len(_records(tmp_path))) == {"in the bad windows": (7, 0), "after it went back": (5, 1)}[moment]:
      raise _Killed

  spike(tmp_path, SPIKES)
  with monkeypatch.context() as patch:
    if moment == "before it goes back":
      patch.setattr(Rollbacks, "start", killed_before)
    else:
      patch.setattr(Hooks, "metrics", killed_in_step)
    with pytest.raises(_Killed):
      train(config, str(tmp_path))
  train(config, str(tmp_path))
  _assert_same_run(rolled_back, tmp_path, config)


def test_the_last_roll_back_is_followed_by_an_error(config, rolled_back, tmp_path, spike):
  workdir = tmp_path / "copy"
  shutil.copytree(rolled_back, workdir)
  shutil.rmtree(workdir / "checkpoints" / "step_8")
  # NaN at once, of whatever seed: from step 6 on, twice, of which the second is one too many.
  spike(workdir, {(7, 1): np.nan, (7, 2): np.nan})
  with pytest.raises(NonFiniteMetricError, match=r"rolled back 2 times already; raise config\.health\.max_rollbacks=2"):
    train(config, str(workdir))
  assert [(r["checkpoint"], r["step"], r["value"], r["limit"]) for r in _records(workdir)[1:]] == [(6, 7, None, None)]


def test_without_a_checkpoint_from_before_the_collapse_ends_the_run(config, tmp_path, spike):
  spike(tmp_path, {(1, 0): np.inf})
  with pytest.raises(CollapseError, match="there is no checkpoint up to step 0, the last good one, to roll back to"):
    train(config, str(tmp_path))
  assert not _records(tmp_path)


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
  (tmp_path / ROLLBACKS_FILE).write_text("{")
  with pytest.raises(UserError, match=rf"{ROLLBACKS_FILE} is damaged"):
    Rollbacks(str(tmp_path))
