"""Tables of a paper: layout, pixels per video, turns of the timed steps, and one measured table."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from benchmarks import paper_table
from benchmarks.paper_rows import TABLES, Published
from benchmarks.paper_table import Figures
from experiments import inbetween_shape_motion, mvt_weizmann
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import from_config_dict
from vidgen_jax.runs.experiment import build_experiment

pytest_plugins = ("tests.tiny_experiment", "tests.fake_clock")

REFERENCE = Figures(
  name="dvd_gan_fp",
  discriminators="8 F + dV",
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
  discriminators="8 dF + crV",
  ms=360.0,
  ratio=0.9,
  kilosteps=1000.0,
  gb=None,
  published=Published(ms=453, gb=3.54, kilosteps=817),
  published_ratio=453 / 537,
)


def test_published_figures_are_in_brackets():
  text = paper_table.layout(TABLES["decompositions"](), [REFERENCE, FASTER], batch_size=8)
  header, first, second, *notes = text.splitlines()
  assert header.split() == ["discriminators", "ms", "ratio", "K", "steps", "GB", "pixels", "M", "params", "GFLOP"]
  columns = "dvd_gan_fp 8 F + dV 400.0 [537] 1.000 [1.000] 900 [689] 0.075 [3.53] 49,152 12.35 11.57"
  assert " ".join(first.split()) == columns
  columns = "faster 8 dF + crV 360.0 [453] 0.900 [0.844] 1,000 [817] unknown [3.54] 49,152 12.35 11.57"
  assert " ".join(second.split()) == columns
  assert len(header) == len(first) == len(second)
  # The fastest row's 1,000,000 steps of 360 ms.
  assert "100.0 hours on this machine" in "".join(notes)


def test_rows_without_published_figures():
  row = dataclasses.replace(REFERENCE, published=Published(), published_ratio=None)
  text = paper_table.layout(TABLES["units"](), [row], batch_size=8).splitlines()[1]
  assert " ".join(text.split()) == "dvd_gan_fp 8 F + dV 400.0 1.000 900 0.075 49,152 12.35 11.57"


def test_goals_of_measured_rows():
  (goal,) = paper_table.goals(TABLES["decompositions"](), [REFERENCE, FASTER])
  assert (goal.name, goal.value, goal.at_most, goal.met) == ("faster / dvd_gan_fp", 0.9, 0.85, False)
  assert paper_table.goals(TABLES["decompositions"](), [dataclasses.replace(FASTER, ratio=None)]) == []


@pytest.mark.parametrize(
  ("changes", "pixels"),
  [
    ({"decomposition": "dvd_gan_fp"}, 8 * 64 * 64 + 16 * 32 * 32),
    ({"decomposition": "mocogan_like", "frames_per_clip": 1}, 64 * 64 + 16 * 64 * 64),
    ({"decomposition": "stronger", "downsampling": 4}, (8 + 16 + 16) * 16 * 16),
  ],
)
def test_pixels_per_video(changes, pixels, tiny):
  sizes = {"data__num_frames": 16, "data__resolution": 64, "algorithm__frames_per_clip": 8}
  made = tiny(**sizes | {f"algorithm__{name}": value for name, value in changes.items()})
  assert paper_table.pixels_per_video(made) == pixels


def test_experiments_of_other_algorithms_are_an_error():
  config = from_config_dict(inbetween_shape_motion.get_config("smoke"))
  with pytest.raises(UserError, match=r"--table needs an experiment of trivd, but .*:smoke is one of inbetween"):
    paper_table.measure(config, TABLES["units"]())


def test_rows_of_mvt_gan_do_not_depend_on_the_variant():
  config, table = from_config_dict(mvt_weizmann.get_config("mvt_tsa_smoke")), TABLES["mvt"]()
  made = {name: paper_table.row_experiment(config, row) for name, row in table.rows.items()}
  assert table.reference == "mvt" and {"mvt_mc", "mvt_var"} < set(made)
  for name, experiment in made.items():
    variant = mvt_weizmann.get_config(f"{name}_smoke")
    assert experiment.config.algorithm == from_config_dict(variant).algorithm
    assert (paper_table.abbreviations(experiment), paper_table.pixels_per_video(experiment)) == (
      "2 F + clV",
      (2 + 4) * 16 * 16,
    )
  assert paper_table.goals(table, [dataclasses.replace(FASTER, name="mvt_mc")]) == []


@pytest.mark.slow
def test_measured_rows(tiny, monkeypatch):
  monkeypatch.setattr(paper_table, "build_experiment", functools.partial(build_experiment, devices=jax.devices()[:1]))
  config = tiny(algorithm__discriminator_steps=1).config
  first, second = paper_table.measure(config, TABLES["decompositions"](), rows=["dvd_gan_fp", "faster"], steps=1)
  assert (first.name, first.discriminators, first.pixels) == ("dvd_gan_fp", "2 F + dV", 2 * 8 * 8 + 3 * 4 * 4)
  assert (second.name, second.discriminators, second.pixels) == ("faster", "2 dF + crV", (2 + 3) * 4 * 4)
  assert (first.ratio, second.ratio) == (1, second.ms / first.ms)
  assert max(first.kilosteps, second.kilosteps) == 1000
  assert first.kilosteps * first.ms == pytest.approx(second.kilosteps * second.ms)
  assert first.parameters == second.parameters > 0
  assert first.gflop > second.gflop > 0
  assert first.gb > 0
  assert second.published == Published(ms=453, gb=3.54, kilosteps=817)


class _Step:
  """A step of a fixed duration on a fake clock, which logs its name and state."""

  def __init__(self, name: str, seconds: float, calls: list, clock):
    self._name, self._seconds, self._calls, self._clock = name, seconds, calls, clock

  def __call__(self, state, batch, constants):
    self._calls.append((self._name, state))
    self._clock.now += self._seconds
    return state + 1, {"loss": jnp.zeros(())}


def test_steps_take_turns_and_every_turn_begins_with_an_untimed_step(clock):
  calls = []
  steps = [_Step("a", 1.0, calls, clock), _Step("b", 3.0, calls, clock)]
  first, second = paper_table.time_in_turns(steps, [0, 100], None, [{}, {}], steps=6)
  # Four windows of two timed steps.
  assert [name for name, _ in calls] == (["a"] * 3 + ["b"] * 3) * 4
  assert [state for name, state in calls if name == "b"] == list(range(100, 112))
  assert (first.bare, second.fastest, second.bare) == (1.0, 3.0, 3.0)


def test_fewer_steps_than_windows(clock):
  calls = []
  steps = [_Step("a", 1.0, calls, clock), _Step("b", 1.0, calls, clock)]
  paper_table.time_in_turns(steps, [0, 0], None, [{}, {}], steps=1)
  assert [name for name, _ in calls] == ["a", "a", "b", "b"]
