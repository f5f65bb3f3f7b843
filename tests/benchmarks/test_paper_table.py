"""Columns of a table by hand; tests/commands/test_bench.py measures one."""

import dataclasses

import pytest

from experiments import inbetween_shape_motion, mvt_weizmann
from vidgen_jax.bench import tables
from vidgen_jax.bench.paper_tables import TABLES, Published
from vidgen_jax.bench.tables import Figures
from vidgen_jax.errors import UserError
from vidgen_jax.runs import config as configs

pytest_plugins = ("tests.tiny_experiment",)

REFERENCE = Figures(
  name="dvd_gan_fp",
  judges="8 F + dV",
  ms=400.0,
  ratio=1.0,
  kilosteps=900.0,
  gb=0.0748,
  pixels=49_152,
  parameters=12_345_678,
  gflop=11.57,
  published=Published(ms=537, gb=3.53, kilosteps=689),
  published_ratio=1.0,
)
FASTER = dataclasses.replace(
  REFERENCE,
  name="faster",
  judges="8 dF + crV",
  ms=360.0,
  ratio=0.9,
  kilosteps=1000.0,
  gb=None,
  published=Published(ms=453, gb=3.54, kilosteps=817),
  published_ratio=453 / 537,
)


def test_the_papers_figures_stand_beside_ours():
  text = tables.layout(TABLES["decompositions"](), [REFERENCE, FASTER], batch_size=8)
  header, first, second, *notes = text.splitlines()
  assert header.split() == ["judges", "ms", "ratio", "K", "steps", "GB", "pixels", "M", "params", "GFLOP"]
  columns = "dvd_gan_fp 8 F + dV 400.0 [537] 1.000 [1.000] 900 [689] 0.075 [3.53] 49,152 12.35 11.57"
  assert " ".join(first.split()) == columns
  columns = "faster 8 dF + crV 360.0 [453] 0.900 [0.844] 1,000 [817] unknown [3.54] 49,152 12.35 11.57"
  assert " ".join(second.split()) == columns
  assert len(header) == len(first) == len(second)
  # The fastest row's 1,000,000 steps of 360 ms.
  assert "100.0 hours here" in "".join(notes)


def test_a_row_the_paper_does_not_have_stands_alone():
  row = dataclasses.replace(REFERENCE, published=Published(), published_ratio=None)
  text = tables.layout(TABLES["units"](), [row], batch_size=8).splitlines()[1]
  assert " ".join(text.split()) == "dvd_gan_fp 8 F + dV 400.0 1.000 900 0.075 49,152 12.35 11.57"


def test_goals_are_those_of_measured_rows():
  (goal,) = tables.goals(TABLES["decompositions"](), [REFERENCE, FASTER])
  assert (goal.name, goal.value, goal.at_most, goal.met) == ("faster / dvd_gan_fp", 0.9, 0.85, False)
  assert tables.goals(TABLES["decompositions"](), [dataclasses.replace(FASTER, ratio=None)]) == []


@pytest.mark.parametrize(
  ("changes", "pixels"),
  [
    ({"decomposition": "dvd_gan_fp"}, 8 * 64 * 64 + 16 * 32 * 32),
    ({"decomposition": "mocogan_like", "frames_per_clip": 1}, 64 * 64 + 16 * 64 * 64),
    ({"decomposition": "stronger", "downsampling": 4}, (8 + 16 + 16) * 16 * 16),
  ],
)
def test_pixels_of_a_video(changes, pixels, tiny):
  sizes = {"data__num_frames": 16, "data__resolution": 64, "algorithm__frames_per_clip": 8}
  made = tiny(**sizes | {f"algorithm__{name}": value for name, value in changes.items()})
  assert tables.pixels_per_video(made) == pixels


def test_other_models_have_no_such_table():
  config = configs.from_config_dict(inbetween_shape_motion.get_config("smoke"))
  with pytest.raises(UserError, match=r"this --table needs an experiment of trivd, and .*:smoke is one of inbetween"):
    tables.measure(config, TABLES["units"]())


def test_rows_of_paper_003_are_valid_whatever_the_experiment():
  config, table = configs.from_config_dict(mvt_weizmann.get_config("mvt_tsa_smoke")), TABLES["mvt"]()
  made = {name: tables._experiment(config, row) for name, row in table.rows.items()}
  assert table.reference == "mvt" and {"mvt_mc", "mvt_var"} < set(made)
  for name, experiment in made.items():
    variant = mvt_weizmann.get_config(f"{name}_smoke")
    assert experiment.config.algorithm == configs.from_config_dict(variant).algorithm
    assert (tables._judges(experiment), tables.pixels_per_video(experiment)) == ("2 F + clV", (2 + 4) * 16 * 16)
  assert tables.goals(table, [dataclasses.replace(FASTER, name="mvt_mc")]) == []
