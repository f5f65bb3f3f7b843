"""Jobs of several processes, as on several hosts, with a CPU device each: what they compute, and how they end."""

import json
import os
import random
import resource
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
from vidgen_jax.parallel.preemption import PREEMPTED_EXIT_CODE
from vidgen_jax.parallel.startup import HEARTBEAT_SECONDS
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs import workdir as workdirs
from vidgen_jax.runs.checkpoint import Checkpointer

pytest_plugins = ["tests.trained_runs", "tests.fake_storage"]
# One worker runs them all: programs are compiled once, and the two cores of a small machine are busy anyway.
pytestmark = pytest.mark.xdist_group("processes")

NUM_KILLS = int(os.environ.get("VIDGEN_NUM_KILLS", "1"))
"""How often a training is killed; BUILD_NOTES.md tells of more."""

PATIENCE = 240
"""Seconds after which a process is taken to hang."""


@pytest.fixture
def launch(repository, tmp_path_factory):
  """Starts the processes of a command; those that are left over are killed at the end."""
  started, logs = [], tmp_path_factory.mktemp("logs")

  def launch(words: list[str], count: int) -> list[subprocess.Popen]:
    command = [sys.executable, "-m", "vidgen_jax", *words]
    if count > 1:
      command += ["--distributed", f"--coordinator=127.0.0.1:{_free_port()}", f"--num_processes={count}"]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_PLATFORMS": "cpu"}
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
  """Starts the processes of a training of the tiny experiment."""

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
  config = workdirs.load_config(str(workdir))
  experiment = build_experiment(config, devices=jax.devices()[:1])
  with Checkpointer(str(workdir), read_only=True) as checkpointer:
    state = checkpointer.restore(experiment.abstract_state).state
  state = state.replace(key=jax.random.key_data(state.key))
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def test_any_number_of_processes_computes_the_same_and_continues_what_others_began(start, tmp_path):
  # 40 clips less the test clips, 24 a step: the fourth step ends in the third epoch.
  one, many = tmp_path / "one", tmp_path / "many"
  assert _statuses(start(one, 1, train__num_steps=4)) == [0]
  assert _statuses(start(many, 4, train__num_steps=2, train__checkpoint_every=1)) == [0, 0, 0, 0]
  _flip_bits(many / "checkpoints" / "step_2" / "state")
  job = start(many, 2, train__num_steps=3)
  assert _statuses(job) == [0, 0]
  for process in job:
    assert "checkpoint of step 2 cannot be read and is passed over" in process.log.read_text()
    assert "24 clips seen; saved by 4 processes on 4 devices, now 2 on 2" in process.log.read_text()
  assert _statuses(start(many, 1, train__num_steps=4)) == [0]
  np.testing.assert_allclose(_losses(many), _losses(one), rtol=1e-5)


def _flip_bits(folder) -> None:
  """Here and there in the files that hold values: not every place of them is in use."""
  for path in folder.glob("ocdbt.process_*/d/*"):
    data = bytearray(path.read_bytes())
    for place in range(40, len(data), 80):
      data[place] ^= 4
    path.write_bytes(data)


def test_a_disk_that_is_full_for_one_of_them_ends_all_of_them(start, tmp_path):
  job = start(tmp_path, 2, train__num_steps=100_000, train__checkpoint_every=5)
  _wait_until(job, (tmp_path / "checkpoints" / "step_5").is_dir)
  resource.prlimit(job[1].pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
  begun = time.monotonic()
  assert _statuses(job) == [PREEMPTED_EXIT_CODE, 2]
  assert time.monotonic() - begun < HEARTBEAT_SECONDS + 15
  assert (tmp_path / "checkpoints" / "step_5").is_dir()


def test_sigterm_on_any_of_them_saves_the_same_step_on_all(start, tmp_path):
  job = start(tmp_path, 2, train__num_steps=100_000, train__checkpoint_every=100_000)
  _wait_for_steps(tmp_path, 3, job)
  job[1].send_signal(signal.SIGTERM)
  assert _statuses(job) == [PREEMPTED_EXIT_CODE] * 2
  (saved,) = [line.partition("saved step ")[2] for line in job[1].log.read_text().splitlines() if "saved step" in line]
  with Checkpointer(str(tmp_path), read_only=True) as checkpointer:
    (step,) = checkpointer.steps()
  assert saved.startswith(f"{step},")
  assert step == len(_losses(tmp_path))


def test_a_mistake_of_one_process_ends_it_at_once(start, tmp_path):
  begun = time.monotonic()
  job = start(tmp_path, 2, data__name="nothing")
  assert _statuses(job) == [2, 2]
  assert "data set 'nothing' is not in" in job[0].log.read_text()
  assert time.monotonic() - begun < 60


def test_a_training_that_is_killed_again_and_again_ends_as_the_undisturbed_one(start, tmp_path, bucket):
  # The undisturbed one meets in a bucket.
  undisturbed, killed = f"{bucket}/undisturbed", tmp_path / "killed"
  steps = 10 + 10 * NUM_KILLS
  settings = {"train__num_steps": steps, "train__checkpoint_every": 4}
  assert _statuses(start(undisturbed, 2, **settings)) == [0, 0]
  draw = random.Random(0)
  for count in range(NUM_KILLS):
    job = start(killed, 2, **settings)
    _wait_for_steps(killed, _steps(killed) + draw.randrange(1, 8), job)
    time.sleep(draw.uniform(0, 0.2))
    victim = draw.randrange(2) if count else 1
    job[victim].kill()
    begun = time.monotonic()
    status = job[1 - victim].wait(timeout=PATIENCE)
    if victim == 1:  # Those that lose the first one are ended by JAX, in its own words.
      assert status == PREEMPTED_EXIT_CODE
      assert time.monotonic() - begun < HEARTBEAT_SECONDS + 15
      assert "another process of the job ended, or cannot be reached" in job[0].log.read_text()
    assert status != 0
  assert _statuses(start(killed, 2, **settings)) == [0, 0]
  expected, found = _state(undisturbed), _state(killed)
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert _losses(killed) == _losses(undisturbed)


def test_samples_of_two_processes_are_those_of_one(launch, run_folder, tmp_path):
  words = ["sample", f"--workdir={run_folder}", "--num_clips=3", "--samples=2"]
  job = launch([*words, f"--out={tmp_path / 'two'}"], 2)
  assert cli.dispatch([*words, f"--out={tmp_path / 'one'}"]) == 0
  assert _statuses(job) == [0, 0]
  assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
  one, two = (np.load(tmp_path / name / "samples.npz")["samples"].astype(int) for name in ("one", "two"))
  assert np.ptp(one) > 100
  assert np.abs(one - two).max() <= 1


def _wait_for_steps(workdir, steps, job) -> None:
  """Until so many steps are written."""
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
    (["--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=2"], "--process_id=2 must lie in 0..1"),
    (["--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=1"], "belong to --distributed"),
  ],
)
def test_flags_that_do_not_go_together(flags, message, tmp_path, capsys):
  words = ["train", "--config=experiments/trivd_shape_motion.py:smoke", f"--workdir={tmp_path}", *flags]
  assert cli.dispatch(words) == 2
  assert message in capsys.readouterr().err
