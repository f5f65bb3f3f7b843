"""The training loop: resume, signals, faults. All runs share two programs, those of the smoke variants."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import shutil
import signal
import socket
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import mvt_weizmann, trivd_shape_motion
from vidgen_jax import cli
from vidgen_jax.commands import train as train_command
from vidgen_jax.commands.train import train
from vidgen_jax.core.state import TrainState
from vidgen_jax.errors import RetryableError, UserError
from vidgen_jax.gans.mvt import algorithm as mvt
from vidgen_jax.parallel.preemption import StopSignals
from vidgen_jax.runs import config as configs
from vidgen_jax.runs.experiment import Experiment, build_experiment
from vidgen_jax.runs import workdir as workdirs
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.hooks import Hooks
from vidgen_jax.runs.loop import NonFiniteMetricError, TrainLoop
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file, write_weight_file

pytest_plugins = ["tests.trained_runs"]


def _with_train(config: ExperimentConfig, **fields: object) -> ExperimentConfig:
  return dataclasses.replace(config, train=dataclasses.replace(config.train, **fields))


def _saved(workdir: Path, step: int, config: ExperimentConfig) -> dict[str, np.ndarray]:
  """Every array of a checkpoint, by path."""
  with Checkpointer(str(workdir)) as checkpointer:
    restored = checkpointer.restore(build_experiment(config).abstract_state, step=step)
  state = restored.state.replace(key=jax.random.key_data(restored.state.key))
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def _assert_bitwise_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
  assert first.keys() == second.keys()
  for name, value in first.items():
    np.testing.assert_array_equal(second[name], value, err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(run_folder, run_config):
  """The state after four steps without a break."""
  return _saved(run_folder, 4, run_config)


def test_the_run_moves_every_kind_of_array(run_folder, run_config, undisturbed):
  before = _saved(run_folder, 2, run_config)
  for part in ("generator'].params", "frame_disc'].params", "batch_stats", "spectral_stats", ".ema", ".opt_states"):
    names = [name for name in undisturbed if part in name]
    assert any(not np.array_equal(before[name], undisturbed[name]) for name in names), part


@pytest.mark.parametrize(
  ("folder", "judged", "normalised"),
  [
    (
      "run_folder",
      {"disc/frame_disc": ["fake"], "disc/downsampled_video_disc": ["fake"]},
      ["generator", "frame_disc", "downsampled_video_disc"],
    ),
    ("inbetween_folder", {"disc/image_disc": ["fake"], "disc/video_disc": ["fake"]}, []),
    ("anchors_folder", {"image_disc": ["decoded", "drawn"], "clip_disc": ["fake"]}, []),
  ],
)
def test_every_net_and_every_discriminators_outputs_are_written(folder, judged, normalised, request):
  workdir = request.getfixturevalue(folder)
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  written = {name for line in lines for name in line}
  for discriminator, generated in judged.items():
    assert {f"{discriminator}/{name}" for name in ("real", *generated, "loss")} <= written
  nets = build_experiment(workdirs.load_config(str(workdir))).abstract_state.nets
  assert {name.removesuffix("/param_norm") for name in written if name.endswith("/param_norm")} == set(nets)
  for kind in ("sigma_max", "sigma_mean"):
    assert {name.removesuffix(f"/{kind}") for name in written if name.endswith(kind)} == set(normalised)


def test_resume_is_bitwise_in_the_middle_of_an_epoch(run_config, undisturbed, tmp_path):
  # 32 clips, 24 a step: step 3 ends in the third epoch, after 8 of its clips.
  train(_with_train(run_config, num_steps=3), str(tmp_path), profile=True)
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))
  # Reading and transfers may be organised otherwise, and further ahead: the place is that of what was consumed.
  ahead = dataclasses.replace(run_config.data, num_threads=3, prefetch=1, device_prefetch=3)
  state = train(dataclasses.replace(run_config, data=ahead), str(tmp_path))
  assert int(state.step) == 4
  _assert_bitwise_equal(undisturbed, _saved(tmp_path, 4, run_config))
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [line["step"] for line in lines if "disc/loss" in line] == [1, 2, 3, 4]


def test_a_clock_that_jumps_changes_the_times_and_nothing_else(run_config, undisturbed, tmp_path, monkeypatch):
  clock, day, offset = time.time, 86_400, 0
  jumps = itertools.chain([400 * day, -400 * day, day, 0], itertools.repeat(0))
  monkeypatch.setattr(time, "time", lambda: clock() + offset)
  metrics = Hooks.metrics

  def jump(*arguments) -> None:
    nonlocal offset
    offset = next(jumps)
    metrics(*arguments)

  monkeypatch.setattr(Hooks, "metrics", jump)
  config = _with_train(run_config, checkpoint_every=1, checkpoints_to_keep=2)
  for _ in range(5):  # As launchers do: saving may end because time seems to be up.
    with contextlib.suppress(RetryableError):
      train(config, str(tmp_path))
      break
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert max(line["time"] for line in lines) - min(line["time"] for line in lines) > day
  assert [line["step"] for line in lines if "disc/loss" in line] == [1, 2, 3, 4]
  assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_3", "step_4"]
  _assert_bitwise_equal(undisturbed, _saved(tmp_path, 4, run_config))


def test_a_second_run_in_one_folder_is_refused_while_the_first_one_trains(run_config, tmp_path):
  workdirs.claim(str(tmp_path), run_config)
  with workdirs.exclusive(str(tmp_path)):
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    with pytest.raises(UserError, match=rf"--workdir=\S+ is being trained by another process; .*\({holder}\)"):
      train(run_config, str(tmp_path))
  assert not list((tmp_path / "checkpoints").glob("*"))
  with workdirs.exclusive(str(tmp_path)):  # It was let go.
    pass


def test_a_changed_label_map_is_an_error_on_resume(run_folder, run_config, relabelled_data_dir, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(run_folder, workdir)
  data = dataclasses.replace(run_config.data, data_dir=relabelled_data_dir)
  with pytest.raises(UserError, match=r"has the classes left, up, but the run in --workdir=\S+ has up, left; build"):
    train(dataclasses.replace(_with_train(run_config, num_steps=5), data=data), str(workdir))


class _OneLayerFlow(nn.Module):
  @nn.compact
  def __call__(self, first, second):
    return nn.Conv(2, (3, 3))(second - first)


@pytest.fixture
def flow_weights(tmp_path, monkeypatch) -> Path:
  """Weights of a network of one layer that stands for PWC-Net, with which a step would compile for a minute."""
  monkeypatch.setattr(mvt, "PWCNet", _OneLayerFlow)
  image = jnp.zeros((1, 4, 4, 3))
  variables = jax.tree.map(np.asarray, _OneLayerFlow().init(jax.random.key(0), image, image))
  fields = {"settings": {}, "preprocessing": {}, "source": "test", "source_hash": ""}
  write_weight_file(tmp_path / "flow.safetensors", WeightFile(network="pwc_net", variables=variables, **fields))
  return tmp_path / "flow.safetensors"


def _constrained(run_config, **algorithm: object) -> ExperimentConfig:
  config = mvt_weizmann.get_config("mvt_smoke")
  config.data.name, config.data.data_dir = run_config.data.name, run_config.data.data_dir
  config.algorithm.update({"num_classes": 2, "motion_constraint": 1.0, **algorithm})
  config.train.update({"num_steps": 1, "image_every": 0})
  return configs.from_config_dict(config)


def test_the_motion_constraint_sees_with_frozen_weights_that_must_stay(run_config, flow_weights, tmp_path):
  config = _constrained(run_config, flow_weights=str(flow_weights))
  workdir = tmp_path / "run"
  train(config, str(workdir))
  figures = _losses(workdir)[1]
  assert -1 < figures["gen/motion_similarity"] < 1
  for name in ("image_disc", "video_disc"):
    assert {f"disc/{name}/real", f"disc/{name}/fake"} <= figures.keys()
  parts = figures["gen/image_disc/loss"] + figures["gen/video_disc/loss"] + 1 - figures["gen/motion_similarity"]
  assert figures["gen/loss"] == pytest.approx(parts, rel=1e-4)
  saved = _saved(workdir, 1, config)
  assert not any("flow" in name for name in saved)

  weights = read_weight_file(flow_weights)
  changed = jax.tree.map(lambda value: value + np.float32(0.1), weights.variables)
  write_weight_file(flow_weights, dataclasses.replace(weights, variables=changed))
  with pytest.raises(UserError, match=r"flow.safetensors has the hash \w+, but the run in --workdir=\S+ began with"):
    train(_with_train(config, num_steps=2), str(workdir))
  write_weight_file(flow_weights, dataclasses.replace(weights, network="i3d"))
  with pytest.raises(UserError, match="holds weights of i3d, and pwc_net is needed"):
    train(config, str(tmp_path / "other"))
  assert not (tmp_path / "other").exists()


def test_clips_from_noise_are_not_scored_one_by_one(run_config, tmp_path):
  config = _with_train(_constrained(run_config), evaluate_every=2)
  with pytest.raises(UserError, match=r"train\.evaluate_every=2: clips from noise have no truth"):
    train(config, str(tmp_path / "run"))


def _losses(workdir: Path) -> dict[int, dict[str, float]]:
  """All figures of both updates, by step."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  found = {line["step"]: {k: v for k, v in line.items() if k.startswith(("disc/", "gen/"))} for line in lines}
  return {step: figures for step, figures in found.items() if figures}


@pytest.mark.parametrize("first", [1, 2])
def test_two_phases_resume_bitwise_before_and_at_the_change(first, anchors_folder, tmp_path):
  config = workdirs.load_config(str(anchors_folder))
  after = _saved(anchors_folder, 4, config)
  if first == 1:
    moved = _saved(anchors_folder, 2, config)
    images, clips = ("image_encoder", "image_generator", "image_disc"), ("temporal_encoder", "temporal_generator")
    still = [name for name in after if "nets['image_disc'].params" in name]
    assert still and all(np.array_equal(moved[name], after[name]) for name in still)
    for net in (*images[:2], *clips, "temporal_disc"):
      names = [name for name in after if f".nets['{net}'].params" in name]
      assert any(not np.array_equal(moved[name], after[name]) for name in names), net
  train(_with_train(config, num_steps=first), str(tmp_path))
  assert int(train(config, str(tmp_path)).step) == 4
  _assert_bitwise_equal(after, _saved(tmp_path, 4, config))
  assert _losses(tmp_path) == _losses(anchors_folder)


def test_inbetween_resumes_bitwise(inbetween_folder, tmp_path):
  config = workdirs.load_config(str(inbetween_folder))
  before, after = (_saved(inbetween_folder, step, config) for step in (2, 4))
  nets = ("encoder", "latent_generator", "video_generator", "image_disc", "video_disc")
  for part in (*(f"nets['{net}'].params" for net in nets), "batch_stats", ".ema", ".opt_states"):
    names = [name for name in after if part in name]
    assert any(not np.array_equal(before[name], after[name]) for name in names), part
  workdir = tmp_path / "copy"
  shutil.copytree(inbetween_folder, workdir)
  shutil.rmtree(workdir / "checkpoints" / "step_4")
  assert int(train(config, str(workdir)).step) == 4
  _assert_bitwise_equal(after, _saved(workdir, 4, config))
  assert _losses(workdir) == _losses(inbetween_folder)
  assert list(_losses(workdir)) == [1, 2, 3, 4]


def test_inbetween_in_bfloat16_trains_a_step_and_samples(inbetween_folder, tmp_path):
  config = _with_train(workdirs.load_config(str(inbetween_folder)), num_steps=1, checkpoint_every=1)
  config = dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, compute_dtype="bfloat16"))
  train(config, str(tmp_path))
  expected, found = _losses(inbetween_folder)[1], _losses(tmp_path)[1]
  assert found.keys() == expected.keys()
  for name in ("disc/loss", "gen/loss"):
    assert found[name] != expected[name]
    assert found[name] == pytest.approx(expected[name], rel=0.05)
  trained = workdirs.load_trained(str(tmp_path))
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(trained.nets))
  batch = {"conditioning": np.full((8, 2, 16, 16, 3), 64, np.uint8), "label": np.zeros(8, np.int32)}
  experiment = trained.experiment
  batch = experiment.put_batch(batch, microbatches=False)
  video = np.asarray(experiment.sample(trained.nets, batch, jax.random.key(0), options=experiment.options()))
  assert (video.shape, video.dtype) == ((8, 8, 16, 16, 3), np.uint8)
  assert (video[:, [0, -1]] == 64).all()
  assert video[:, 1:-1].std() > 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_continues_bitwise(number, run_config, undisturbed, tmp_path, monkeypatch):
  original = Hooks.metrics

  def metrics(self, step, values):
    original(self, step, values)
    if step == 2:  # fetched while step 3 runs
      os.kill(os.getpid(), number)

  monkeypatch.setattr(Hooks, "metrics", metrics)
  config = _with_train(run_config, checkpoint_every=100)
  stop = StopSignals()
  assert int(train(config, str(tmp_path), stop=stop).step) == 3
  assert stop.received == number
  monkeypatch.setattr(Hooks, "metrics", original)
  assert int(train(config, str(tmp_path)).step) == 4
  _assert_bitwise_equal(undisturbed, _saved(tmp_path, 4, config))


@pytest.mark.parametrize(
  ("step", "received", "status"),
  [
    (4, None, 0),
    (4, signal.SIGTERM, 0),  # it came with the last step
    (3, signal.SIGTERM, 75),
    (3, None, 75),  # of several hosts another one was told
    (3, signal.SIGINT, 0),  # a person
  ],
)
def test_the_exit_status_says_whether_to_start_the_run_again(step, received, status, monkeypatch, tmp_path):
  def stopped(config, workdir, *, profile, stop):
    stop.received = received
    return types.SimpleNamespace(step=np.int32(step))

  monkeypatch.setattr(train_command, "train", stopped)
  assert trivd_shape_motion.get_config("smoke").train.num_steps == 4
  words = ["train", "--config=experiments/trivd_shape_motion.py:smoke", f"--workdir={tmp_path}"]
  assert cli.dispatch(words) == status


class _OneStep:
  """An experiment whose step takes a constant from the host."""

  def __init__(self):
    self.config = _with_train(configs.from_config_dict(trivd_shape_motion.get_config("smoke")), num_steps=1)
    self.algorithm = types.SimpleNamespace(phase_at=lambda step: "main")
    self.step_fn = lambda phase: self._step
    self.net_health = lambda nets: {}
    self.abstract_state = self.batch_shape = None

  def _step(self, state, batch, constants):
    return state.replace(step=state.step + np.ones(3, np.float32)), {}

  def put_batch(self, batch, *, microbatches):
    return batch

  def step_constants(self, step, phase):
    return None

  def clips_per_step(self, phase):
    return 1

  def compile_step(self, phase):
    return Experiment.compile_step(self, phase)


def test_without_jit_a_step_is_not_compiled_and_may_take_constants_from_the_host():
  checkpointer = types.SimpleNamespace(due=lambda step: False, save=lambda *_: None, wait=lambda: None)
  hooks = types.SimpleNamespace(due=lambda step: False, metrics=lambda *_: None, flush=lambda: None)
  state = TrainState(step=jnp.zeros(3), key=None, nets={}, opt_states={}, ema={})
  loop = TrainLoop(_OneStep(), checkpointer, iter([None]), hooks, StopSignals(), {})
  with jax.disable_jit():
    np.testing.assert_array_equal(loop.run(state, 0).step, np.ones(3))


def test_a_truncated_checkpoint_falls_back_to_the_one_before(run_folder, run_config, undisturbed, tmp_path, caplog):
  workdir = tmp_path / "copy"
  shutil.copytree(run_folder, workdir)
  for path in (workdir / "checkpoints" / "step_4" / "state").rglob("d/*"):
    os.truncate(path, path.stat().st_size // 2)
  with caplog.at_level("WARNING"):
    train(run_config, str(workdir))
  assert "checkpoint of step 4 cannot be read" in caplog.text
  _assert_bitwise_equal(undisturbed, _saved(workdir, 4, run_config))


def test_only_unreadable_checkpoints_are_an_error(run_folder, run_config, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(run_folder, workdir)
  for path in (workdir / "checkpoints").rglob("*"):
    if path.is_file():
      os.truncate(path, path.stat().st_size // 3)
  with pytest.raises(UserError, match=r"no checkpoint in .* can be read \(tried \[(2, 4|4, 2)\]\)"):
    train(run_config, str(workdir))


def test_a_workdir_of_another_config_is_refused_by_field(run_folder, run_config):
  other = dataclasses.replace(run_config, algorithm=dataclasses.replace(run_config.algorithm, head="projection"))
  with pytest.raises(UserError, match=r"config\.algorithm\.head was 'mixed_projection', is 'projection'"):
    train(other, str(run_folder))


def test_fields_that_change_nothing_may_differ(run_config):
  data = dataclasses.replace(run_config.data, workers=2, device_prefetch=3)
  other = dataclasses.replace(_with_train(run_config, num_steps=99, log_every=7), name="renamed", data=data)
  assert not configs.differences(configs.to_dict(run_config), configs.to_dict(other))


def test_nan_stops_the_run_and_is_never_saved(run_config, tmp_path):
  rate = dataclasses.replace(run_config.algorithm.discriminator_optimizer, learning_rate=1e30)
  algorithm = dataclasses.replace(run_config.algorithm, discriminator_optimizer=rate)
  config = _with_train(dataclasses.replace(run_config, algorithm=algorithm), checkpoint_every=1)
  with pytest.raises(NonFiniteMetricError, match=r"metric \S+ became (nan|inf|-inf) at step (\d); last good step \d"):
    train(config, str(tmp_path))
  with Checkpointer(str(tmp_path)) as checkpointer:
    steps = checkpointer.steps()
  for step in steps:
    assert all(np.isfinite(value).all() for value in _saved(tmp_path, step, config).values()), step


def test_a_missing_data_set_names_the_command_that_builds_it(run_config, tmp_path):
  data = dataclasses.replace(run_config.data, data_dir=str(tmp_path))
  with pytest.raises(UserError, match="vidgen data build shape_motion"):
    train(dataclasses.replace(run_config, data=data), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("part", "fields", "message"),
  [
    ("data", {"resolution": 18}, "gives frames of 18x18"),
    ("data", {"channels": 1}, r"data\.channels=1 and algorithm\.channels=3 must be equal"),
    ("evaluation", {"num_frames": 2}, "num_frames=2 leaves nothing"),
    ("evaluation", {"truncation": math.nan}, "truncation is not a number"),
  ],
)
def test_what_does_not_fit_is_told_before_the_folder_is_taken(part, fields, message, run_config, tmp_path):
  changed = dataclasses.replace(getattr(run_config, part), **fields)
  with pytest.raises(UserError, match=message):
    train(dataclasses.replace(run_config, **{part: changed}), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_a_workdir_that_cannot_be_made_is_one_line(run_config, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="file/run"):
    train(run_config, str(tmp_path / "file" / "run"))


def test_a_batch_that_the_devices_do_not_divide_is_refused(run_config, tmp_path):
  with pytest.raises(UserError, match=r"config\.train\.batch_size=12 is not divisible by the 8 devices"):
    train(_with_train(run_config, batch_size=12), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
