"""Jobs of several processes with a CPU device each, like jobs of several hosts: their results and their end."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.tiny_experiment import TINY
from vidgen_jax import cli
from vidgen_jax.buckets import user_path
from vidgen_jax.parallel.processes import PREEMPTED_EXIT_CODE
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.workdir import load_config
from vidgen_jax.scores.report import read_scores

pytest_plugins = ["tests.trained_runs", "tests.fake_storage"]
# One worker runs all of them: programs are compiled once, and the processes need the cores.
pytestmark = pytest.mark.xdist_group("processes")

NUM_KILLS = int(os.environ.get("VIDGEN_NUM_KILLS", "1"))
"""Number of kills of a training; see BUILD_NOTES.md for a run with more."""

PATIENCE = 240
"""Seconds after which a process counts as hanging; far below the 600 s that orbax waits for a peer."""


@pytest.fixture
def launch(repository, tmp_path_factory):
  """A function that starts the processes of a command; the remaining ones are killed at the end."""
  started, logs = [], tmp_path_factory.mktemp("logs")

  def launch(words: list[str], count: int) -> list[subprocess.Popen]:
    command = [sys.executable, "-m", "vidgen_jax", *words]
    if count > 1:
      command += ["--distributed", f"--coordinator=127.0.0.1:{_free_port()}", f"--num_processes={count}"]
    environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")}
    job = []
    for index in range(count):
      log = (logs / f"{len(started)}_{index}.log").open("w")
      which = [f"--process_id={index}"] if count > 1 else []
      job.append(subprocess.Popen([*command, *which], cwd=repository, env=environment, stdout=log, stderr=log))
      job[-1].log = Path(log.name)
      log.close()
    started.append(job)
    return job

  yield launch
  for process in (process for job in started for process in job):
    process.kill()
    process.wait()


@pytest.fixture
def start(launch, run_config):
  """A function that starts the processes of a training of the tiny experiment."""

  def start(workdir: Path | str, count: int, **changes) -> list[subprocess.Popen]:
    fields = TINY | {"data.data_dir": run_config.data.data_dir, "train.log_every": 1, "train.image_every": 0}
    fields |= {"train.evaluate_every": 0} | {name.replace("__", "."): value for name, value in changes.items()}
    changed = [f"--config.{name}={_text(value)}" for name, value in fields.items()]
    words = ["train", "--config=experiments/trivd_shape_motion.py:smoke", *changed, f"--workdir={workdir}"]
    return launch(words, count)

  return start


def _text(value) -> str:
  return ",".join(map(str, value)) + "," if isinstance(value, tuple) else str(value)


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def _statuses(job) -> list[int]:
  return [process.wait(timeout=PATIENCE) for process in job]


def _losses(workdir) -> list[tuple[float, float]]:
  lines = map(json.loads, (user_path(workdir) / "metrics.jsonl").read_text().splitlines())
  return [(line["disc/loss"], line["gen/loss"]) for line in lines if "disc/loss" in line]


def _steps(workdir) -> int:
  metrics = workdir / "metrics.jsonl"
  return len(_losses(workdir)) if metrics.exists() and metrics.read_text().endswith("\n") else 0


def _state(workdir) -> dict[str, np.ndarray]:
  """Every array of the last checkpoint, by path."""
  config = load_config(str(workdir))
  experiment = build_experiment(config, devices=jax.devices()[:1])
  with Checkpointer(str(workdir), read_only=True) as checkpointer:
    state = checkpointer.restore(experiment.abstract_state).state
  state = state.replace(key=jax.random.key_data(state.key))
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def test_two_processes_train_and_save_the_same_as_one(start, tmp_path):
  one, two = tmp_path / "one", tmp_path / "two"
  jobs = [start(one, 1, train__num_steps=2), start(two, 2, train__num_steps=2)]
  assert [_statuses(job) for job in jobs] == [[0], [0, 0]]
  np.testing.assert_allclose(_losses(two), _losses(one), rtol=1e-5)
  expected, found = _state(one), _state(two)
  assert expected.keys() == found.keys()
  # Biases before a normalisation have no gradient but rounding errors, to which Adam gives the size of the step.
  for name, value in expected.items():
    if "kernel" in name and ".nets" in name and ".params" in name:
      np.testing.assert_allclose(found[name], value, rtol=1e-2, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes(start, tmp_path):
  # 32 training clips, 24 a step: the fourth step ends in the third epoch.
  one, many = tmp_path / "one", tmp_path / "many"
  assert _statuses(start(one, 1, train__num_steps=4)) == [0]
  assert _statuses(start(many, 4, train__num_steps=2, train__checkpoint_every=1)) == [0, 0, 0, 0]
  _flip_bits(many / "checkpoints" / "step_2" / "state")
  job = start(many, 2, train__num_steps=3)
  assert _statuses(job) == [0, 0]
  for process in job:
    assert "checkpoint of step 2 cannot be read and is skipped" in process.log.read_text()
    assert "24 clips seen; saved by 4 processes on 4 devices, now 2 on 2" in process.log.read_text()
  assert _statuses(start(many, 1, train__num_steps=4)) == [0]
  np.testing.assert_allclose(_losses(many), _losses(one), rtol=1e-5)


def _flip_bits(folder) -> None:
  """Flips bits all over the files of values, since not every byte of them is used."""
  for path in folder.glob("ocdbt.process_*/d/*"):
    data = bytearray(path.read_bytes())
    for index in range(40, len(data), 80):
      data[index] ^= 4
    path.write_bytes(data)


@pytest.mark.slow
def test_a_full_disk_of_one_process_ends_all(start, tmp_path):
  job = start(tmp_path, 2, train__num_steps=100_000, train__checkpoint_every=5)
  _wait_until(job, (tmp_path / "checkpoints" / "step_5").is_dir)
  resource.prlimit(job[1].pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
  assert _statuses(job) == [PREEMPTED_EXIT_CODE, 2]
  assert (tmp_path / "checkpoints" / "step_5").is_dir()


@pytest.mark.slow
def test_sigterm_to_one_process_saves_the_same_step_on_all(start, tmp_path):
  job = start(tmp_path, 2, train__num_steps=100_000, train__checkpoint_every=100_000)
  _wait_for_steps(tmp_path, 3, job)
  job[1].send_signal(signal.SIGTERM)
  assert _statuses(job) == [PREEMPTED_EXIT_CODE] * 2
  (saved,) = [line.partition("saved step ")[2] for line in job[1].log.read_text().splitlines() if "saved step" in line]
  with Checkpointer(str(tmp_path), read_only=True) as checkpointer:
    (step,) = checkpointer.steps()
  assert saved.startswith(f"{step},")
  assert step == len(_losses(tmp_path))


@pytest.mark.slow
def test_a_user_error_ends_every_process(start, tmp_path):
  job = start(tmp_path, 2, data__name="nothing")
  assert _statuses(job) == [2, 2]
  assert "data set 'nothing' is not in" in job[0].log.read_text()


@pytest.mark.slow
def test_a_training_killed_repeatedly_ends_like_an_uninterrupted_one(start, tmp_path, bucket):
  uninterrupted, killed = f"{bucket}/uninterrupted", tmp_path / "killed"
  steps = 10 + 10 * NUM_KILLS
  settings = {"train__num_steps": steps, "train__checkpoint_every": 4}
  assert _statuses(start(uninterrupted, 2, **settings)) == [0, 0]
  draw = random.Random(0)
  for count in range(NUM_KILLS):
    job = start(killed, 2, **settings)
    _wait_for_steps(killed, _steps(killed) + draw.randrange(1, 8), job)
    time.sleep(draw.uniform(0, 0.2))
    victim = draw.randrange(2) if count else 1
    job[victim].kill()
    status = job[1 - victim].wait(timeout=PATIENCE)
    if victim == 1:  # JAX itself ends the others if process 0 is lost.
      assert status == PREEMPTED_EXIT_CODE
      assert "another process of the job ended, or cannot be reached" in job[0].log.read_text()
    assert status != 0
  assert _statuses(start(killed, 2, **settings)) == [0, 0]
  expected, found = _state(uninterrupted), _state(killed)
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert _losses(killed) == _losses(uninterrupted)


@pytest.mark.slow
def test_two_processes_sample_the_same_as_one(launch, run_folder, tmp_path):
  words = ["sample", f"--workdir={run_folder}", "--num_clips=3", "--samples=2"]
  job = launch([*words, f"--out={tmp_path / 'two'}"], 2)
  assert cli.dispatch([*words, f"--out={tmp_path / 'one'}"]) == 0
  assert _statuses(job) == [0, 0]
  assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
  one, two = (np.load(tmp_path / name / "samples.npz")["samples"].astype(int) for name in ("one", "two"))
  assert np.ptp(one) > 100
  assert np.abs(one - two).max() <= 1


@pytest.mark.slow
def test_two_processes_score_all_checkpoints_as_one(launch, run_folder, tmp_path):
  folders = [tmp_path / name for name in ("one", "two")]
  words = ["evaluate", "--all_checkpoints", "--best_metric=psnr", "--samples=1", "--num_clips=3"]
  for folder in folders:
    shutil.copytree(run_folder, folder)
  assert _statuses(launch([*words, f"--workdir={folders[1]}"], 2)) == [0, 0]
  assert cli.dispatch([*words, f"--workdir={folders[0]}"]) == 0
  one, two = (read_scores(folder / "scores.jsonl") for folder in folders)
  assert [(row["step"], row["subject"], row["metric"]) for row in one] == [
    (row["step"], row["subject"], row["metric"]) for row in two
  ]
  np.testing.assert_allclose([row["value"] for row in one], [row["value"] for row in two], rtol=1e-5, atol=1e-5)
  best = [json.loads((folder / "best" / "best.json").read_text()) for folder in folders]
  assert [best[0][name] for name in ("step", "compared")] == [best[1][name] for name in ("step", "compared")]


def _wait_for_steps(workdir, steps, job) -> None:
  _wait_until(job, lambda: _steps(workdir) >= steps)


def _wait_until(job, reached) -> None:
  deadline = time.monotonic() + PATIENCE
  while not reached():
    assert all(process.poll() is None for process in job), job[0].log.read_text()[-2000:]
    assert time.monotonic() < deadline
    time.sleep(0.05)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--coordinator=127.0.0.1:1"], "--num_processes, --process_id is missing"),
    (["--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=2"], "--process_id=2 must be in 0..1"),
    (["--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=1"], "belong to --distributed"),
  ],
)
def test_inconsistent_flags_are_errors(flags, message, tmp_path, capsys):
  words = ["train", "--config=experiments/trivd_shape_motion.py:smoke", f"--workdir={tmp_path}", *flags]
  assert cli.dispatch(words) == 2
  assert message in capsys.readouterr().err
