"""Every experiment file: all variants are valid, and the smoke variant goes from training to an export's samples."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax import config as configs
from vidgen_jax import experiment as experiments
from vidgen_jax.data.shape_motion import ShapeMotionOptions, build_shape_motion
from vidgen_jax.errors import UserError

FILES = sorted(Path(__file__).parents[1].glob("experiments/*.py"))


def _module(path: Path):
  return importlib.import_module(f"experiments.{path.stem}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("variant", ["paper", "cpu", "smoke"])
def test_variants_are_valid_and_survive_json(path, variant):
  config = configs.from_config_dict(_module(path).get_config(variant))
  assert config.name == f"{path.stem}:{variant}"
  assert configs.from_dict(configs.to_dict(config)) == config
  # Shapes of the whole state, without computing anything: the networks fit the data.
  experiment = experiments.build(config)
  assert experiment.abstract_state.nets.keys() == experiment.algorithm.networks().keys()
  assert experiment.abstract_state.ema.keys() == set(experiment.algorithm.ema_nets)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_unknown_variant_is_a_user_error(path):
  with pytest.raises(UserError, match="no variant 'huge'"):
    _module(path).get_config("huge")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_smoke_variant_trains_is_scored_sampled_and_exported(path, tmp_path, capsys):
  name = _module(path).get_config("smoke").data.name
  build_shape_motion(ShapeMotionOptions(name=name, data_dir=str(tmp_path / "data"), num_clips=20))
  workdir, export, samples = tmp_path / "run", tmp_path / "export", tmp_path / "samples"
  config = [f"--config={path}:smoke", f"--config.data.data_dir={tmp_path / 'data'}"]
  assert cli.dispatch(["train", *config, f"--workdir={workdir}"]) == 0
  assert list((workdir / "pictures").glob("contact_sheet_*.png"))
  assert cli.dispatch(["evaluate", f"--workdir={workdir}", "--num_clips=4", "--samples=2"]) == 0
  table = capsys.readouterr().out
  assert "copy_last" in table
  assert "psnr" in table
  assert cli.dispatch(["export", f"--workdir={workdir}", f"--out={export}"]) == 0
  arguments = [f"--export={export}", f"--out={samples}", "--num_clips=2"]
  assert cli.dispatch(["sample", *arguments, f"--data_dir={tmp_path / 'data'}"]) == 0
  with np.load(next(samples.glob("*.npz"))) as saved:
    assert any(saved[key].dtype == np.uint8 and saved[key].ndim >= 5 for key in saved.files)
