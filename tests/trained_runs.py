"""Tiny runs for the tests of everything that follows training. Loaded as a plugin by the modules that need them."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from experiments import inbetween_shape_motion, mvt_weizmann, sr_cgan_shape_motion, trivd_shape_motion
from tests.untrained_runs import save_untrained
from vidgen_jax import cli
from vidgen_jax.commands.train import train
from vidgen_jax.data.datasets.shape_motion import ShapeMotionOptions, build_shape_motion
from vidgen_jax.runs.config import ExperimentConfig, from_config_dict

NUM_CLIPS = 40
"""Clips of the data set; every fifth is a test clip, so there are eight of them."""


def build_once(tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
  """A folder that is built once per test session, by the first pytest-xdist worker that needs it.

  The others wait for the lock, as in pytest-xdist's how-to "Making session-scoped fixtures execute only once".

  Args:
    tmp_path_factory: pytest's.
    name: the folder's name, unique in the session.
    build: fills the folder, which does not exist before.
  """
  root = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    root = root.parent
  folder, done = root / name, root / f"{name}.done"
  with (root / f"{name}.lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not done.exists():
      shutil.rmtree(folder, ignore_errors=True)  # A worker that failed left it incomplete.
      build(folder)
      done.touch()
  return folder


@pytest.fixture(scope="session")
def run_config(tmp_path_factory) -> ExperimentConfig:
  """The smoke variant of TrIVD-GAN-FP on a data set of its own, without images and scores during training."""

  def build(folder: Path) -> None:
    folder.mkdir()
    build_shape_motion(ShapeMotionOptions(name="shape_motion", data_dir=str(folder), num_clips=NUM_CLIPS))

  data_dir = build_once(tmp_path_factory, "shape_motion", build)
  return _quiet(trivd_shape_motion.get_config("smoke"), str(data_dir))


def _quiet(config: ConfigDict, data_dir: str) -> ExperimentConfig:
  config.data.name, config.data.data_dir = "shape_motion", data_dir
  config.train.image_every = 0
  config.train.evaluate_every = 0
  return from_config_dict(config)


def _trained(tmp_path_factory: pytest.TempPathFactory, name: str, config: ExperimentConfig) -> Path:
  """This worker's own copy of a run, since commands write into it."""
  shared = build_once(tmp_path_factory, f"trained_{name}", lambda folder: train(config, str(folder)))
  workdir = tmp_path_factory.mktemp(name)
  shutil.copytree(shared, workdir, dirs_exist_ok=True)
  return workdir


@pytest.fixture(scope="session")
def run_folder(run_config, tmp_path_factory) -> Path:
  """The workdir, with checkpoints of steps 2 and 4. Tests must not change it, apart from what commands add."""
  return _trained(tmp_path_factory, "run", run_config)


@pytest.fixture(scope="session")
def export_folder(run_folder, tmp_path_factory) -> Path:
  """The run's export."""

  def build(folder: Path) -> None:
    assert cli.dispatch(["export", f"--workdir={run_folder}", f"--out={folder}"]) == 0

  return build_once(tmp_path_factory, "export", build)


@pytest.fixture(scope="session")
def inbetween_folder(run_config, tmp_path_factory) -> Path:
  """Like `run_folder`, on the same clips, of a model conditioned on the first and the last of eight frames.

  The last level has two latent blocks with different content.
  """
  config = inbetween_shape_motion.get_config("smoke")
  config.algorithm.latent_blocks = (1, 2)
  return _trained(tmp_path_factory, "inbetween", _quiet(config, run_config.data.data_dir))


@pytest.fixture(scope="session")
def anchors_folder(run_config, tmp_path_factory) -> Path:
  """Like `run_folder`, on the same clips, of a model that takes any frames of five; two phases of two steps each."""
  config = sr_cgan_shape_motion.get_config("smoke")
  return _trained(tmp_path_factory, "anchors", _quiet(config, run_config.data.data_dir))


@pytest.fixture(scope="session")
def noise_folder(run_config, tmp_path_factory) -> Path:
  """An untrained run on the same clips, of a model that generates clips of both classes from noise."""
  config = mvt_weizmann.get_config("mvt_tsa_smoke")
  config.algorithm.num_classes = 2
  workdir = tmp_path_factory.mktemp("noise")
  save_untrained(workdir, _quiet(config, run_config.data.data_dir))
  return workdir


@pytest.fixture(scope="session")
def relabelled_data_dir(run_config, tmp_path_factory) -> str:
  """A copy of the runs' data set with its two classes exchanged."""
  data_dir = tmp_path_factory.mktemp("relabelled")
  shutil.copytree(run_config.data.data_dir, data_dir, dirs_exist_ok=True)
  (names,) = data_dir.glob("shape_motion/*/label.labels.txt")
  names.write_text("".join(f"{name}\n" for name in reversed(names.read_text().split())))
  return str(data_dir)


@pytest.fixture
def vidgen(capfd):
  """Runs a command line that must fail with status 2 and one line of error; returns that line."""

  def run(*words: object) -> str:
    assert cli.dispatch([str(word) for word in words]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("vidgen: error: ")]
    assert len(errors) == 1
    return errors[0].removeprefix("vidgen: error: ")

  return run
