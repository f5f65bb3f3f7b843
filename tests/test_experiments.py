"""Every experiment file: all variants are valid, and the smoke variant goes from training to an export's samples."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from experiments import trivd_bair, trivd_kinetics600, trivd_table1, trivd_table2
from vidgen_jax import cli
from vidgen_jax.bench.compilation import trace_step
from vidgen_jax.bench.paper_tables import TABLES as PAPER_TABLES
from vidgen_jax.commands.train import train
from vidgen_jax.data.datasets.shape_motion import CLASS_NAMES, ShapeMotionOptions, build_shape_motion
from vidgen_jax.errors import UserError
from vidgen_jax.gans import presets
from vidgen_jax.nn.recurrent import RECURRENT_UNITS
from vidgen_jax.runs import config as configs
from vidgen_jax.runs import experiment as experiments

FILES = sorted(Path(__file__).parents[1].glob("experiments/*.py"))
# Files with a row of a table in every variant; their smoke forms are trained below.
TABLES = {"trivd_table1", "trivd_table2"}
# Which smoke form is trained of files with several; together they train everything that the rows change.
SMOKE = {
  "mvt_weizmann": "mvt_mc_smoke",
  "mvt_jester": "mvt_tsa_smoke",
  "mvt_ucf101": "mvt_smoke",
  "sr_cgan_mug": "base_smoke",
}
# Not trained: the smoke form is that of another file, on other data.
TWINS = {"sr_cgan_weizmann": "sr_cgan_shape_motion"}


def _module(path: Path):
  return importlib.import_module(f"experiments.{path.stem}")


def _variants(path: Path) -> tuple[str, ...]:
  return getattr(_module(path), "VARIANTS", presets.FORMS)


@pytest.mark.parametrize(
  ("path", "variant"),
  [pytest.param(path, variant, id=f"{path.stem}-{variant}") for path in FILES for variant in _variants(path)],
)
def test_variants_are_valid_and_survive_json(path, variant):
  config = configs.from_config_dict(_module(path).get_config(variant))
  assert config.name == f"{path.stem}:{variant}"
  assert configs.from_dict(configs.to_dict(config)) == config
  experiment = experiments.build(config)
  if path.stem in TABLES and variant.endswith("_cpu"):
    return  # a row's networks are those of its smoke form, the sizes those of other files
  # Shapes of the whole state, without computing anything: the networks fit the data.
  assert experiment.abstract_state.nets.keys() == experiment.algorithm.networks().keys()
  assert experiment.abstract_state.ema.keys() == set(experiment.algorithm.ema_nets)


def test_table_1_has_the_papers_rows():
  algorithm, train = {}, {}
  for row in ("mocogan_like_1", "mocogan_like_8", "faster"):
    config = trivd_table1.get_config(row)
    algorithm[row], train[row] = config.algorithm, config.train
  assert [(a.decomposition, a.frames_per_clip) for a in algorithm.values()] == [
    ("mocogan_like", 1),
    ("mocogan_like", 8),
    ("faster", 8),
  ]
  assert {(a.recurrent_unit, a.generator_channels, a.discriminator_channels) for a in algorithm.values()} == {
    ("conv_gru", 48, 48)
  }
  assert [t.num_steps for t in train.values()] == [651_000, 561_000, 817_000]
  assert {t.batch_size for t in train.values()} == {512}
  # Steps of all rows are those of the table's figures.
  published = PAPER_TABLES["decompositions"]().rows
  steps = {row.replace("mocogan_like_8", "mocogan_like"): steps for row, steps in trivd_table1.ROWS.items()}
  assert steps == {name: 1000 * row.published.kilosteps for name, row in published.items()}
  assert trivd_table1.get_config("mocogan_like_1_cpu").algorithm.frames_per_clip == 1
  assert trivd_table1.get_config("mocogan_like_8_cpu").algorithm.frames_per_clip == 4


def test_table_2_has_a_row_for_every_unit():
  for unit in RECURRENT_UNITS:
    config = trivd_table2.get_config(unit)
    assert (config.algorithm.recurrent_unit, config.algorithm.decomposition) == (unit, "faster")
    assert (config.train.num_steps, config.train.batch_size) == (500_000, 512)
    assert trivd_table2.get_config(f"{unit}_smoke").data.name == "shape_motion"
  assert len(trivd_table2.VARIANTS) == 3 * len(RECURRENT_UNITS)


def test_splits_and_sizes_of_bair_and_kinetics():
  paper, balanced = (trivd_bair.get_config(variant) for variant in ("paper", "balanced"))
  assert (paper.data.name, balanced.data.name) == ("bair", "bair_balanced")
  assert paper.algorithm.to_dict() == balanced.algorithm.to_dict()
  assert (paper.algorithm.generator_channels, paper.algorithm.discriminator_channels) == (48, 92)
  large, medium = (trivd_kinetics600.get_config(variant).algorithm for variant in ("paper", "paper_48"))
  assert [(a.generator_channels, a.discriminator_channels) for a in (large, medium)] == [(120, 120), (48, 48)]
  assert {(a.decomposition, a.recurrent_unit) for a in (large, medium)} == {("stronger", "tsru_p")}


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in TWINS], ids=lambda path: path.stem)
def test_twins_differ_in_their_data_only(path):
  twin = next(other for other in FILES if other.stem == TWINS[path.stem])
  one, other = (_module(file).get_config("smoke") for file in (path, twin))
  for part in ("algorithm", "train", "ema", "step", "mesh"):
    assert one[part].to_dict() == other[part].to_dict()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_unknown_variant_is_a_user_error(path):
  with pytest.raises(UserError, match=r"no variant .huge.; choose .* or "):
    _module(path).get_config("huge")


@pytest.mark.parametrize("variant", ["huge_cpu", "faster_paper", "_cpu", "faster_cpu_smoke"])
def test_forms_are_of_rows_that_exist(variant):
  with pytest.raises(UserError, match=r"no variant .*; choose clip, .*, stronger or one of these with _cpu or _smoke"):
    trivd_table1.get_config(variant)


def test_a_single_frame_and_the_whole_video_train(tmp_path):
  build_shape_motion(ShapeMotionOptions(name="shape_motion", data_dir=str(tmp_path), num_clips=20))
  config = trivd_table1.get_config("mocogan_like_1_smoke")
  config.data.data_dir = str(tmp_path)
  config.train.num_steps = 2
  config.train.image_every = config.train.evaluate_every = 0
  train(configs.from_config_dict(config), str(tmp_path / "run"))
  metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
  assert all(f"{update}/{net}/loss" in metrics for update in ("disc", "gen") for net in ("frame_disc", "video_disc"))


def test_a_step_without_a_discriminator_of_frames_can_be_traced():
  experiment = experiments.build(configs.from_config_dict(trivd_table1.get_config("cropped_downsampled_smoke")))
  _, metrics = trace_step(experiment, "main").out_info
  losses = {name for name in metrics if name.startswith("disc/") and name.endswith("/loss")}
  assert losses - {"disc/loss"} == {"disc/cropped_video_disc/loss", "disc/downsampled_video_disc/loss"}


@pytest.mark.parametrize(
  "path", [path for path in FILES if path.stem not in TABLES | TWINS.keys()], ids=lambda path: path.stem
)
def test_smoke_variant_trains_is_scored_sampled_and_exported(path, tmp_path, capsys):
  variant = SMOKE.get(path.stem, "smoke")
  made = _module(path).get_config(variant)
  name, num_classes = made.data.name, len(CLASS_NAMES) if made.algorithm_name == "mvt" else 1
  gives_frames = num_classes == 1 and not variant.startswith("base")
  build_shape_motion(ShapeMotionOptions(name=name, data_dir=str(tmp_path / "data"), num_clips=20))
  workdir, export, samples = tmp_path / "run", tmp_path / "export", tmp_path / "samples"
  config = [f"--config={path}:{variant}", f"--config.data.data_dir={tmp_path / 'data'}"]
  assert cli.dispatch(["train", *config, f"--workdir={workdir}"]) == 0
  assert list((workdir / "images").glob("contact_sheet_*.png"))
  assert cli.dispatch(["evaluate", f"--workdir={workdir}", "--num_clips=4", "--samples=2"]) == 0
  table = capsys.readouterr().out
  assert ("copy_last" in table) == gives_frames
  assert ("psnr" in table) == gives_frames
  assert "content_distance" in table
  assert cli.dispatch(["export", f"--workdir={workdir}", f"--out={export}"]) == 0
  arguments = [f"--export={export}", f"--out={samples}", "--num_clips=2"]
  assert cli.dispatch(["sample", *arguments, f"--data_dir={tmp_path / 'data'}"]) == 0
  with np.load(next(samples.glob("*.npz"))) as saved:
    # Of frames two clips; from noise two of each class that the data has.
    made = saved["samples"]
    assert (made.dtype, made.ndim, len(made)) == (np.uint8, 6, 2 * num_classes)
