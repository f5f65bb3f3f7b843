"""`vidgen train`: resume, restore, signals, faults. The runs share the programs of the smoke variants."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import mvt_weizmann, trivd_shape_motion
from tests.tiny_experiment import TINY
from vidgen_jax import cli
from vidgen_jax.commands import train as train_command
from vidgen_jax.commands.train import train
from vidgen_jax.data import records
from vidgen_jax.data.datasets.shape_motion import ShapeMotionOptions, build_shape_motion
from vidgen_jax.errors import RetryableError, UserError
from vidgen_jax.gans.mvt import algorithm as mvt
from vidgen_jax.parallel.processes import StopSignals
from vidgen_jax.runs import loop
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import ExperimentConfig, differences, from_config_dict, from_dict, to_dict
from vidgen_jax.runs.experiment import TrainingExperiment, build_experiment
from vidgen_jax.runs.loop import NonFiniteMetricError
from vidgen_jax.runs.monitor import MetricLog
from vidgen_jax.runs.workdir import claim, exclusive, load_config, load_trained
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file, write_weight_file

pytest_plugins = ["tests.trained_runs"]


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
  """Runs with the same step share its compiled program."""
  original, programs = TrainingExperiment.compile_step, {}

  def compile_step(self, phase):
    config = self.config
    key = repr(
      (config.algorithm, config.step, config.ema, config.mesh, config.train.batch_size, self.batch_shape(), phase)
    )
    if jax.config.jax_disable_jit or key not in programs:
      programs[key] = original(self, phase)
    return programs[key]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(TrainingExperiment, "compile_step", compile_step)
    yield


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
def uninterrupted(run_folder, run_config):
  """The state after four uninterrupted steps."""
  return _saved(run_folder, 4, run_config)


def test_training_changes_every_kind_of_array(run_folder, run_config, uninterrupted):
  before = _saved(run_folder, 2, run_config)
  for part in ("generator'].params", "frame_disc'].params", "batch_stats", "spectral_stats", ".ema", ".opt_states"):
    names = [name for name in uninterrupted if part in name]
    assert any(not np.array_equal(before[name], uninterrupted[name]) for name in names), part


@pytest.mark.parametrize(
  ("folder", "generated", "normalised"),
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
def test_metrics_hold_norms_of_all_nets_and_outputs_of_all_discriminators(folder, generated, normalised, request):
  workdir = request.getfixturevalue(folder)
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  written = {name for line in lines for name in line}
  for discriminator, inputs in generated.items():
    assert {f"{discriminator}/{name}" for name in ("real", *inputs, "loss")} <= written
  nets = build_experiment(load_config(str(workdir))).abstract_state.nets
  assert {name.removesuffix("/param_norm") for name in written if name.endswith("/param_norm")} == set(nets)
  for kind in ("sigma_max", "sigma_mean"):
    assert {name.removesuffix(f"/{kind}") for name in written if name.endswith(kind)} == set(normalised)


def test_resume_is_bitwise_in_the_middle_of_an_epoch(run_config, uninterrupted, tmp_path):
  # 32 clips, 24 a step: step 3 ends in the third epoch, after 8 of its clips.
  train(_with_train(run_config, num_steps=3), str(tmp_path), profile=True)
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))
  # Other threads and buffers may read further ahead; the saved iterator state is that of the consumed batches.
  ahead = dataclasses.replace(run_config.data, num_threads=3, prefetch=1, device_prefetch=3)
  state = train(dataclasses.replace(run_config, data=ahead), str(tmp_path))
  assert int(state.step) == 4
  _assert_bitwise_equal(uninterrupted, _saved(tmp_path, 4, run_config))
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [line["step"] for line in lines if "disc/loss" in line] == [1, 2, 3, 4]


def _rows(workdir: Path) -> list[int]:
  """Steps whose losses the metrics file holds."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [line["step"] for line in lines if "disc/loss" in line]


@pytest.fixture
def run_copy(run_folder, tmp_path):
  """A copy of the run, with checkpoints of steps 2 and 4."""
  return shutil.copytree(run_folder, tmp_path / "copy")


def test_a_restored_step_is_repeated_bitwise(run_copy, run_config, uninterrupted):
  assert int(train(_with_train(run_config, num_steps=3), str(run_copy), restore_step=2).step) == 3
  with Checkpointer(str(run_copy), read_only=True) as checkpointer:
    assert checkpointer.steps() == [2, 3]
  assert _rows(run_copy) == [1, 2, 3]
  train(run_config, str(run_copy))
  assert _rows(run_copy) == [1, 2, 3, 4]
  _assert_bitwise_equal(uninterrupted, _saved(run_copy, 4, run_config))


def test_a_new_seed_changes_keys_and_data_and_the_run_resumes_with_it_bitwise(
  run_copy, run_config, uninterrupted, tmp_path, caplog, monkeypatch
):
  once = shutil.copytree(run_copy, tmp_path / "once")
  orders = []
  iterate = loop.train_iterator
  monkeypatch.setattr(loop, "train_iterator", lambda *a, seed=None: orders.append(seed) or iterate(*a, seed=seed))
  train(run_config, str(once), restore_step=2, new_seed=7)
  with Checkpointer(str(once), read_only=True) as checkpointer:
    seed = checkpointer.latest_meta()["seed"]
  assert orders == [None, seed] and seed not in (run_config.train.seed, 7)
  expected = _saved(once, 4, run_config)
  key = jax.random.fold_in(jax.random.wrap_key_data(uninterrupted[".key"]), 7)
  np.testing.assert_array_equal(expected[".key"], jax.random.key_data(key))
  assert not np.array_equal(
    *(jax.tree.leaves({k: v for k, v in state.items() if ".ema" in k})[-1] for state in (expected, uninterrupted))
  )
  assert _losses(once)[2] == _losses(run_copy)[2] and _losses(once)[3] != _losses(run_copy)[3]
  # The repeated command resumes, and so does a command without the two flags.
  short = _with_train(run_config, num_steps=3)
  train(short, str(run_copy), restore_step=2, new_seed=7)
  with caplog.at_level("INFO"):
    train(short, str(run_copy), restore_step=2, new_seed=7)
  assert "the run was restored from step 2 before; resuming from its latest checkpoint" in caplog.text
  train(run_config, str(run_copy))
  _assert_bitwise_equal(expected, _saved(run_copy, 4, run_config))
  assert _losses(run_copy) == _losses(once)


def test_only_existing_checkpoints_can_be_restored(run_copy, run_config, capsys):
  with pytest.raises(UserError, match=r"has no checkpoint of step 3; it has \[2, 4\]"):
    train(run_config, str(run_copy), restore_step=3)
  words = ["train", "--config=experiments/trivd_shape_motion.py:smoke", f"--workdir={run_copy}", "--new_seed=1"]
  assert cli.dispatch(words) == 2
  assert "--new_seed needs --restore_step" in capsys.readouterr().err
  assert cli.dispatch([*words[:-1], "--restore_step=2", "--new_seed=4294967295"]) == 2
  assert _rows(run_copy) == [1, 2, 3, 4]  # nothing was deleted


@pytest.mark.parametrize("seed", [-5, 2**64])
def test_seeds_out_of_range_raise(run_config, seed):
  with pytest.raises(UserError, match=f"config.train.seed={seed} must be in 0"):
    from_dict(to_dict(_with_train(run_config, seed=seed)))


def test_a_clock_that_jumps_changes_only_the_times(run_config, uninterrupted, tmp_path, monkeypatch):
  clock, day, offset = time.time, 86_400, 0
  jumps = itertools.chain([400 * day, -400 * day, day, 0], itertools.repeat(0))
  monkeypatch.setattr(time, "time", lambda: clock() + offset)
  add = MetricLog.add

  def jump(*arguments) -> dict[str, float] | None:
    nonlocal offset
    offset = next(jumps)
    return add(*arguments)

  monkeypatch.setattr(MetricLog, "add", jump)
  config = _with_train(run_config, checkpoint_every=1, checkpoints_to_keep=2)
  for _ in range(5):  # Like a launcher: a save may fail because its time limit seems to have passed.
    with contextlib.suppress(RetryableError):
      train(config, str(tmp_path))
      break
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert max(line["time"] for line in lines) - min(line["time"] for line in lines) > day
  assert _rows(tmp_path) == [1, 2, 3, 4]
  assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_3", "step_4"]
  _assert_bitwise_equal(uninterrupted, _saved(tmp_path, 4, run_config))


def test_a_second_run_in_one_folder_is_refused_while_the_first_one_trains(run_config, tmp_path):
  claim(str(tmp_path), run_config)
  with exclusive(str(tmp_path)):
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    with pytest.raises(UserError, match=rf"another process trains in \S+; wait .*\({holder}\)"):
      train(run_config, str(tmp_path))
  assert not list((tmp_path / "checkpoints").glob("*"))
  with exclusive(str(tmp_path)):  # The lock was released.
    pass


def test_a_changed_label_map_is_an_error_on_resume(run_copy, run_config, relabelled_data_dir):
  data = dataclasses.replace(run_config.data, data_dir=relabelled_data_dir)
  with pytest.raises(UserError, match=r"has the classes left, up, but the run in --workdir=\S+ has up, left; build"):
    train(dataclasses.replace(_with_train(run_config, num_steps=5), data=data), str(run_copy))


def test_a_data_set_that_was_built_again_is_reported_on_resume(run_copy, run_config, tmp_path, caplog):
  name = run_config.data.name
  build_shape_motion(ShapeMotionOptions(name=name, data_dir=str(tmp_path), num_clips=10, seed=9))
  config = dataclasses.replace(run_config, data=dataclasses.replace(run_config.data, data_dir=str(tmp_path)))
  known, found = (records.load_info(name, folder).content_hash for folder in (run_config.data.data_dir, tmp_path))
  message = f"other clips .hash {found[:12]}. than those that the run in --workdir={run_copy} .* {known[:12]}"
  with pytest.raises(UserError, match=f"--strict_data: .*{message}"):
    train(config, str(run_copy), strict_data=True)
  train(config, str(run_copy))  # The run has ended, so that nothing is compiled.
  assert re.search(message, caplog.text)


class _OneLayerFlow(nn.Module):
  @nn.compact
  def __call__(self, first, second):
    return nn.Conv(2, (3, 3))(second - first)


@pytest.fixture
def flow_weights(tmp_path, monkeypatch) -> Path:
  """Weights of a one-layer network in place of PWC-Net, with which a step would compile for a minute."""
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
  return from_config_dict(config)


def test_the_motion_constraint_uses_frozen_weights_that_must_not_change(run_config, flow_weights, tmp_path):
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
  with pytest.raises(UserError, match=r"flow.safetensors has the hash \w+, but the run in --workdir=\S+ started with"):
    train(_with_train(config, num_steps=2), str(workdir))
  write_weight_file(flow_weights, dataclasses.replace(weights, network="i3d"))
  with pytest.raises(UserError, match="has weights of i3d; choose a file of pwc_net"):
    train(config, str(tmp_path / "other"))
  assert not (tmp_path / "other").exists()


def test_clips_from_noise_cannot_be_scored_one_by_one(run_config, tmp_path):
  config = _with_train(_constrained(run_config), evaluate_every=2)
  with pytest.raises(UserError, match=r"train\.evaluate_every=2: clips from noise have no ground truth"):
    train(config, str(tmp_path / "run"))


def _losses(workdir: Path) -> dict[int, dict[str, float]]:
  """Metrics of the updates, by step."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  found = {line["step"]: {k: v for k, v in line.items() if k.startswith(("disc/", "gen/"))} for line in lines}
  return {step: figures for step, figures in found.items() if figures}


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2])
def test_two_phases_resume_bitwise_before_and_at_the_phase_change(first, anchors_folder, tmp_path):
  config = load_config(str(anchors_folder))
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


@pytest.mark.slow
def test_inbetween_resumes_bitwise(inbetween_folder, tmp_path):
  config = load_config(str(inbetween_folder))
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


@pytest.mark.slow
def test_inbetween_in_bfloat16_trains_a_step_and_samples(inbetween_folder, tmp_path):
  config = _with_train(load_config(str(inbetween_folder)), num_steps=1, checkpoint_every=1)
  config = dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, compute_dtype="bfloat16"))
  train(config, str(tmp_path))
  expected, found = _losses(inbetween_folder)[1], _losses(tmp_path)[1]
  assert found.keys() == expected.keys()
  for name in ("disc/loss", "gen/loss"):
    assert found[name] != expected[name]
    assert found[name] == pytest.approx(expected[name], rel=0.05)
  trained = load_trained(str(tmp_path))
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(trained.nets))
  batch = {"conditioning": np.full((8, 2, 16, 16, 3), 64, np.uint8), "label": np.zeros(8, np.int32)}
  experiment = trained.experiment
  batch = experiment.put_batch(batch, microbatches=False)
  video = np.asarray(experiment.sample(trained.nets, batch, jax.random.key(0), options=experiment.options()))
  assert (video.shape, video.dtype) == ((8, 8, 16, 16, 3), np.uint8)
  assert (video[:, [0, -1]] == 64).all()
  assert video[:, 1:-1].std() > 1


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_the_run_resumes_bitwise(number, run_config, uninterrupted, tmp_path, monkeypatch):
  add = MetricLog.add

  def send_signal(self, step, values):
    if step == 2:  # Fetched while step 3 runs.
      os.kill(os.getpid(), number)
    return add(self, step, values)

  config = _with_train(run_config, checkpoint_every=100)
  stop = StopSignals()
  with monkeypatch.context() as patch:
    patch.setattr(MetricLog, "add", send_signal)
    assert int(train(config, str(tmp_path), stop=stop).step) == 3
  assert stop.received == number
  assert int(train(config, str(tmp_path)).step) == 4
  _assert_bitwise_equal(uninterrupted, _saved(tmp_path, 4, config))


@pytest.mark.parametrize(
  ("step", "received", "status"),
  [
    (4, None, 0),
    (4, signal.SIGTERM, 0),  # It arrived with the last step.
    (3, signal.SIGTERM, 75),
    (3, None, 75),  # Another host received it.
    (3, signal.SIGINT, 0),  # A person pressed ^C.
  ],
)
def test_the_exit_status_says_whether_to_start_the_run_again(step, received, status, run_config, monkeypatch, tmp_path):
  def stopped(config, workdir, *, stop, **options):
    stop.received = received
    return types.SimpleNamespace(step=np.int32(step))

  monkeypatch.setattr(train_command, "train", stopped)
  assert trivd_shape_motion.get_config("smoke").train.num_steps == 4
  words = ["train", "--config=experiments/trivd_shape_motion.py:smoke", f"--workdir={tmp_path}"]
  assert cli.dispatch([*words, f"--config.data.data_dir={run_config.data.data_dir}"]) == status


def test_a_mismatch_with_the_data_set_is_one_line_before_the_folder_is_created(run_config, vidgen, tmp_path):
  words = ["--config=experiments/trivd_shape_motion.py:smoke", f"--config.data.data_dir={run_config.data.data_dir}"]
  message = vidgen("train", *words, "--config.algorithm.num_classes=6", f"--workdir={tmp_path / 'run'}")
  assert message == "data set 'shape_motion' has 2 classes, algorithm.num_classes is 6; set it to 2 or 'data'"
  assert not (tmp_path / "run").exists()


def test_without_jit_the_step_is_not_compiled(run_config):
  with jax.disable_jit():
    assert not hasattr(build_experiment(run_config).compile_step("main"), "cost_analysis")


_TRAIN = """
import sys
from vidgen_jax import cli
status = cli.dispatch(sys.argv[1:])
assert "tensorflow" not in sys.modules
assert "vidgen_jax.runs.scoring" not in sys.modules
sys.exit(status)
"""


def test_training_imports_no_tensorflow_and_writes_event_files(run_config, tmp_path):
  pytest.importorskip("tensorboard")
  fields = TINY | {"data.data_dir": run_config.data.data_dir, "train.num_steps": 1, "train.image_every": 0}
  fields |= {"train.evaluate_every": 0}
  changed = [
    f"--config.{name}={','.join(map(str, v)) + ',' if isinstance(v, tuple) else v}" for name, v in fields.items()
  ]
  words = ["train", "--config=experiments/trivd_shape_motion.py:smoke", f"--workdir={tmp_path}", *changed]
  done = subprocess.run(
    [sys.executable, "-c", _TRAIN, *words], capture_output=True, text=True, check=False, timeout=300
  )
  assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
  assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_truncated_checkpoint_is_skipped(run_copy, run_config, uninterrupted, caplog):
  for path in (run_copy / "checkpoints" / "step_4" / "state").rglob("d/*"):
    os.truncate(path, path.stat().st_size // 2)
  with caplog.at_level("WARNING"):
    train(run_config, str(run_copy))
  assert "checkpoint of step 4 cannot be read" in caplog.text
  _assert_bitwise_equal(uninterrupted, _saved(run_copy, 4, run_config))


def test_a_run_without_a_readable_checkpoint_is_an_error(run_copy, run_config):
  for path in (run_copy / "checkpoints").rglob("*"):
    if path.is_file():
      os.truncate(path, path.stat().st_size // 3)
  with pytest.raises(UserError, match=r"no checkpoint in .* can be read \(tried \[(2, 4|4, 2)\]\)"):
    train(run_config, str(run_copy))


def test_the_workdir_of_another_config_is_refused(run_folder, run_config):
  other = dataclasses.replace(run_config, algorithm=dataclasses.replace(run_config.algorithm, head="projection"))
  with pytest.raises(UserError, match=r"config\.algorithm\.head was 'mixed_projection', is 'projection'"):
    train(other, str(run_folder))


def test_fields_without_effect_on_learning_may_change_on_resume(run_config):
  data = dataclasses.replace(run_config.data, workers=2, device_prefetch=3)
  other = dataclasses.replace(_with_train(run_config, num_steps=99, log_every=7), name="renamed", data=data)
  assert not differences(to_dict(run_config), to_dict(other))


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
def test_a_config_that_does_not_fit_is_refused_before_the_folder_is_created(
  part, fields, message, run_config, tmp_path
):
  changed = dataclasses.replace(getattr(run_config, part), **fields)
  with pytest.raises(UserError, match=message):
    train(dataclasses.replace(run_config, **{part: changed}), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_a_workdir_that_cannot_be_created_is_one_line(run_config, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="file/run"):
    train(run_config, str(tmp_path / "file" / "run"))


def test_a_batch_that_the_devices_do_not_divide_is_refused(run_config, tmp_path):
  with pytest.raises(UserError, match=r"config\.train\.batch_size=12 is not divisible by the 8 devices"):
    train(_with_train(run_config, batch_size=12), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
