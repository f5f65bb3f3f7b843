"""Experiment files: every variant is valid; smoke variants run from training to samples of an export."""

import importlib
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from benchmarks.paper_rows import TABLES
from experiments import trivd_bair, trivd_kinetics600, trivd_table1, trivd_table2
from vidgen_jax import cli
from vidgen_jax.bench.compilation import trace_step
from vidgen_jax.data.datasets.shape_motion import CLASS_NAMES, ShapeMotionOptions, build_shape_motion
from vidgen_jax.errors import UserError
from vidgen_jax.gans.presets import FORMS
from vidgen_jax.nn.recurrent import RECURRENT_UNITS
from vidgen_jax.runs.config import from_config_dict, from_dict, to_dict
from vidgen_jax.runs.experiment import build_experiment

FILES = sorted(Path(__file__).parents[1].glob("experiments/*.py"))
# Experiments that consist of a table's rows.
TABLE_FILES = {"trivd_table1", "trivd_table2"}
# The smoke variant of experiments with several; together they cover every change of the rows.
SMOKE = {
  "mvt_weizmann": "mvt_mc_smoke",
  "mvt_jester": "mvt_tsa_smoke",
  "mvt_ucf101": "mvt_smoke",
  "sr_cgan_mug": "base_smoke",
}
# Experiments whose smoke variant differs from another one only in the data.
TWINS = {"sr_cgan_weizmann": "sr_cgan_shape_motion"}
# The default run; `tests.trained_runs` trains, samples and exports smoke variants of the other GANs too.
QUICK = {"mvt_weizmann", "trivd_shape_motion"}


def _get_config(path: Path, variant: str):
  return importlib.import_module(f"experiments.{path.stem}").get_config(variant)


def _variants(path: Path) -> tuple[str, ...]:
  return getattr(importlib.import_module(f"experiments.{path.stem}"), "VARIANTS", FORMS)


@pytest.mark.parametrize(
  ("path", "variant"),
  [pytest.param(path, variant, id=f"{path.stem}-{variant}") for path in FILES for variant in _variants(path)],
)
def test_every_variant_is_valid_and_survives_json(path, variant):
  config = from_config_dict(_get_config(path, variant))
  assert config.name == f"{path.stem}:{variant}"
  assert from_dict(to_dict(config)) == config
  experiment = build_experiment(config)
  if path.stem in TABLE_FILES and not variant.endswith("_smoke"):
    return  # Other experiments have the same sizes.
  # Shapes of the whole state, without computing it: the networks accept the data.
  assert experiment.abstract_state.nets.keys() == experiment.algorithm.networks().keys()
  assert experiment.abstract_state.ema.keys() == set(experiment.algorithm.ema_nets)


PAPER_DEVICES = (8, 32, 64, 256, 512)


@pytest.fixture
def abstract_devices(monkeypatch):
  """Replaces meshes by abstract ones, so that any number of devices can be named."""
  make = lambda shape, names, *, axis_types, devices: AbstractMesh(shape, names, axis_types=axis_types)
  monkeypatch.setattr(jax, "make_mesh", make)
  return lambda count: [None] * count


def _paper_variants(path: Path) -> list[str]:
  return [variant for variant in _variants(path) if not any(form in variant for form in FORMS[1:])]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_paper_variants_start_on_8_to_512_devices(path, abstract_devices):
  for variant in _paper_variants(path):
    config = from_config_dict(_get_config(path, variant))
    for count in PAPER_DEVICES:
      experiment = build_experiment(config, devices=abstract_devices(count))
      video = experiment.batch_shape()["video"]
      occupied = math.gcd(config.train.batch_size, count)
      assert experiment.mesh.size == count
      assert video.sharding.shard_shape(video.shape)[1] == config.train.batch_size // occupied


TRACED = {"inbetween_kth": "paper", "mvt_jester": "mvt_mc", "sr_cgan_kth": "paper", "trivd_kinetics600": "paper"}
"""A paper variant of each GAN."""


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 512])
@pytest.mark.parametrize("path", [path for path in FILES if path.stem in TRACED], ids=lambda path: path.stem)
def test_train_steps_of_paper_variants_have_the_same_shapes_on_8_to_512_devices(path, count, abstract_devices):
  config = from_config_dict(_get_config(path, TRACED[path.stem]))
  experiment = build_experiment(config, devices=abstract_devices(count))
  for phase in experiment.algorithm.phases:
    state, metrics = trace_step(experiment, phase).out_info
    # A step returns the state that it took.
    shape = lambda leaf: (leaf.shape, leaf.dtype)
    assert jax.tree.map(shape, state) == jax.tree.map(shape, experiment.abstract_state)
    assert {name.split("/")[0] for name in metrics} == {u.name for u in experiment.algorithm.updates(phase)}


def test_table_1_has_the_papers_rows():
  configs = [trivd_table1.get_config(row) for row in ("mocogan_like_1", "mocogan_like_8", "faster")]
  algorithms = [config.algorithm for config in configs]
  rows = [("mocogan_like", 1), ("mocogan_like", 8), ("faster", 8)]
  assert [(a.decomposition, a.frames_per_clip) for a in algorithms] == rows
  widths = {(a.recurrent_unit, a.generator_channels, a.discriminator_channels) for a in algorithms}
  assert widths == {("conv_gru", 48, 48)}
  assert [config.train.num_steps for config in configs] == [651_000, 561_000, 817_000]
  assert {config.train.batch_size for config in configs} == {512}
  # The numbers of steps are those that the benchmark cites.
  published = TABLES["decompositions"]().rows
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


def test_evaluations_of_trivd_are_the_papers():
  def protocol(config):
    return config.evaluation.split, config.evaluation.data, config.data.eval_window, config.evaluation.num_clips

  assert protocol(trivd_table1.get_config("faster")) == ("validation", "", "centre", 0)
  assert protocol(trivd_table2.get_config("tsru_p")) == ("validation", "", "centre", 0)
  assert protocol(trivd_table1.get_config("faster_cpu"))[0] == "test"
  assert protocol(trivd_kinetics600.get_config("paper")) == ("test", "", "centre", 0)
  assert protocol(trivd_bair.get_config("paper")) == ("test", "", "start", 0)
  assert protocol(trivd_bair.get_config("balanced")) == ("test", "", "all", 30_000)
  for variant, head in {"mixed_projection": "mixed_projection", "projection": "projection"}.items():
    config = trivd_kinetics600.get_config(variant)
    assert (config.algorithm.head, config.train.num_steps, config.evaluation.split) == (head, 700_000, "validation")
  for variant, unit in {"paper_48": "tsru_p", "dvd_gan_fp_48": "conv_gru"}.items():
    config = trivd_kinetics600.get_config(variant)
    assert (config.algorithm.recurrent_unit, config.train.num_steps) == (unit, 1_000_000)
    assert (config.data.name, *protocol(config)) == ("kinetics600", "test", "ucf101", "centre", 0)
    # The best model is chosen by its performance on the training set (4.1).
    assert from_config_dict(config).for_selection().evaluation_data.name == "kinetics600"
    assert config.evaluation.selection_split == "train"


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in TWINS], ids=lambda path: path.stem)
def test_twins_differ_only_in_their_data(path):
  config, twin = _get_config(path, "smoke"), _get_config(path.with_stem(TWINS[path.stem]), "smoke")
  for part in ("algorithm", "train", "ema", "step", "mesh"):
    assert config[part].to_dict() == twin[part].to_dict()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_unknown_variant(path):
  with pytest.raises(UserError, match=r"no variant .huge.; choose .* or "):
    _get_config(path, "huge")


@pytest.mark.parametrize("variant", ["huge_cpu", "faster_paper", "_cpu", "faster_cpu_smoke"])
def test_unknown_row(variant):
  with pytest.raises(UserError, match=r"no variant .*; choose clip, .*, stronger or one of these with _cpu or _smoke"):
    trivd_table1.get_config(variant)


@pytest.mark.parametrize(
  ("row", "discriminators"),
  [
    ("mocogan_like_1", {"frame_disc", "video_disc"}),
    ("cropped_downsampled", {"cropped_video_disc", "downsampled_video_disc"}),
  ],
)
def test_a_train_step_has_a_loss_for_every_discriminator(row, discriminators):
  experiment = build_experiment(from_config_dict(trivd_table1.get_config(f"{row}_smoke")))
  _, metrics = trace_step(experiment, "main").out_info
  for update in ("disc", "gen"):
    losses = {name.split("/")[1] for name in metrics if name.startswith(f"{update}/") and name.endswith("/loss")}
    assert losses - {"loss"} == discriminators


@pytest.mark.parametrize(
  "path",
  [
    pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else pytest.mark.slow)
    for path in FILES
    if path.stem not in TABLE_FILES | TWINS.keys()
  ],
)
def test_smoke_variant_trains_scores_exports_and_samples(path, tmp_path, capsys):
  variant = SMOKE.get(path.stem, "smoke")
  config = _get_config(path, variant)
  num_classes = len(CLASS_NAMES) if config.algorithm_name == "mvt" else 1
  has_conditioning = num_classes == 1 and not variant.startswith("base")
  data = tmp_path / "data"
  build_shape_motion(ShapeMotionOptions(name=config.data.name, data_dir=str(data), num_clips=20))
  workdir, export, samples = tmp_path / "run", tmp_path / "export", tmp_path / "samples"
  arguments = [f"--config={path}:{variant}", f"--config.data.data_dir={data}"]
  arguments += ["--config.algorithm.num_classes=data"] if num_classes > 1 else []
  assert cli.dispatch(["train", *arguments, f"--workdir={workdir}"]) == 0
  assert list((workdir / "images").glob("contact_sheet_*.png"))
  assert cli.dispatch(["evaluate", f"--workdir={workdir}", "--num_clips=4", "--samples=2"]) == 0
  table = capsys.readouterr().out
  assert ("copy_last" in table) == has_conditioning
  assert ("psnr" in table) == has_conditioning
  assert "content_distance" in table
  assert cli.dispatch(["export", f"--workdir={workdir}", f"--out={export}"]) == 0
  arguments = [f"--export={export}", f"--out={samples}", "--num_clips=2"]
  assert cli.dispatch(["sample", *arguments, f"--data_dir={data}"]) == 0
  with np.load(next(samples.glob("*.npz"))) as saved:
    # Two clips with conditioning frames; from noise two clips of each class of the data set.
    clips = saved["samples"]
    assert (clips.dtype, clips.ndim, len(clips)) == (np.uint8, 6, 2 * num_classes)
