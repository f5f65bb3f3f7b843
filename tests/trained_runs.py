"""Tiny runs, trained once for all tests of what comes after training. Loaded as a plugin by those that need them."""

import shutil
from pathlib import Path

import pytest

from experiments import inbetween_shape_motion, mvt_weizmann, sr_cgan_shape_motion, trivd_shape_motion
from vidgen_jax import cli
from vidgen_jax.commands.train import train
from vidgen_jax.data.datasets.shape_motion import ShapeMotionOptions, build_shape_motion
from vidgen_jax.runs import config as configs
from vidgen_jax.runs.config import ExperimentConfig

NUM_CLIPS = 40
"""Of which every fifth, so eight, are for testing."""


@pytest.fixture(scope="session")
def run_config(tmp_path_factory) -> ExperimentConfig:
  """The smoke variant on a data set of its own, without images and scores in between."""
  data_dir = tmp_path_factory.mktemp("data")
  build_shape_motion(ShapeMotionOptions(name="shape_motion", data_dir=str(data_dir), num_clips=NUM_CLIPS))
  config = trivd_shape_motion.get_config("smoke")
  config.data.data_dir = str(data_dir)
  config.train.image_every = 0
  config.train.evaluate_every = 0
  return configs.from_config_dict(config)


@pytest.fixture(scope="session")
def run_folder(run_config, tmp_path_factory) -> Path:
  """The workdir, with checkpoints of steps 2 and 4. Tests must leave it as it is, but for what commands add."""
  workdir = tmp_path_factory.mktemp("run")
  train(run_config, str(workdir))
  return workdir


@pytest.fixture(scope="session")
def export_folder(run_folder, tmp_path_factory) -> Path:
  """The run's export."""
  folder = tmp_path_factory.mktemp("exports") / "shapes"
  assert cli.dispatch(["export", f"--workdir={run_folder}", f"--out={folder}"]) == 0
  return folder


@pytest.fixture(scope="session")
def inbetween_folder(run_config, tmp_path_factory) -> Path:
  """As `run_folder` and on the same clips, of a model that is given the first and the last of eight frames.

  The last level has two latent blocks, which can be told apart.
  """
  config = inbetween_shape_motion.get_config("smoke")
  config.algorithm.latent_blocks = (1, 2)
  config.data.data_dir = run_config.data.data_dir
  config.train.image_every = 0
  config.train.evaluate_every = 0
  workdir = tmp_path_factory.mktemp("inbetween")
  train(configs.from_config_dict(config), str(workdir))
  return workdir


@pytest.fixture(scope="session")
def anchors_folder(run_config, tmp_path_factory) -> Path:
  """As `run_folder` and on the same clips, of a model that takes any frames of five; two phases of two steps each."""
  config = sr_cgan_shape_motion.get_config("smoke")
  config.data.name, config.data.data_dir = run_config.data.name, run_config.data.data_dir
  config.train.image_every = 0
  config.train.evaluate_every = 0
  workdir = tmp_path_factory.mktemp("anchors")
  train(configs.from_config_dict(config), str(workdir))
  return workdir


@pytest.fixture(scope="session")
def noise_folder(run_config, tmp_path_factory) -> Path:
  """As `run_folder` and on the same clips, of a model that makes clips of both classes from noise."""
  config = mvt_weizmann.get_config("mvt_tsa_smoke")
  config.data.name, config.data.data_dir = run_config.data.name, run_config.data.data_dir
  config.algorithm.num_classes = 2
  config.train.num_steps = 2
  config.train.image_every = 0
  workdir = tmp_path_factory.mktemp("noise")
  train(configs.from_config_dict(config), str(workdir))
  return workdir


@pytest.fixture(scope="session")
def relabelled_data_dir(run_config, tmp_path_factory) -> str:
  """A copy of the runs' data set whose two classes have changed places."""
  data_dir = tmp_path_factory.mktemp("relabelled")
  shutil.copytree(run_config.data.data_dir, data_dir, dirs_exist_ok=True)
  (names,) = data_dir.glob("shape_motion/*/label.labels.txt")
  names.write_text("".join(f"{name}\n" for name in reversed(names.read_text().split())))
  return str(data_dir)


@pytest.fixture
def vidgen(capfd):
  """Runs words that must fail with status 2 and one line of error; returns that line."""

  def run(*words: object) -> str:
    assert cli.dispatch([str(word) for word in words]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("vidgen: error: ")]
    assert len(errors) == 1
    return errors[0].removeprefix("vidgen: error: ")

  return run
