"""`vidgen bench` from end to end on a small data set, and mistakes in its flags."""

import json

import jax
import numpy as np
import pytest

from tests.tiny_experiment import TINY
from vidgen_jax import cli
from vidgen_jax.bench import compilation, extraction_timing
from vidgen_jax.commands import bench
from vidgen_jax.data.datasets.shape_motion import ShapeMotionOptions, build_shape_motion

pytest_plugins = ("tests.trained_runs",)


@pytest.fixture
def words(repository, tmp_path_factory):
  """`vidgen bench` on the tiny experiment and a data set of a few clips."""
  data_dir = tmp_path_factory.mktemp("data")
  build_shape_motion(ShapeMotionOptions(name="shape_motion", data_dir=str(data_dir), num_clips=40))
  quick = TINY | {"algorithm.discriminator_steps": 1, "train.num_steps": 1200}
  overrides = [f"--config.{name}={value}" for name, value in quick.items()]
  config = f"--config={repository}/experiments/trivd_shape_motion.py:smoke"
  return ["bench", config, f"--config.data.data_dir={data_dir}", *overrides]


def test_the_command_from_end_to_end(words, tmp_path, capsys):
  out = tmp_path / "new" / "figures.jsonl"
  cache = jax.config.jax_compilation_cache_dir
  try:
    assert cli.dispatch([*words, "--steps=4", "--peak_tflops=0.001", f"--out={out}"]) == 0
    assert jax.config.jax_compilation_cache_dir == cache  # the command's own cache is gone again
  finally:
    jax.config.update("jax_compilation_cache_dir", cache)
  head, *lines = map(json.loads, out.read_text().splitlines())
  figures = {line["name"]: line for line in lines}
  value = {name: line["value"] for name, line in figures.items()}
  assert (head["experiment"], head["devices"], head["steps"]) == ("trivd_shape_motion:smoke", jax.device_count(), 4)
  assert 0 < value["step, fastest"] <= value["step, median"]
  # Two micro-batches of 8 clips are consumed a step.
  assert value["clips consumed"] == pytest.approx(16 / (value["step, median"] / 1e3))
  assert value["loop / step"] == pytest.approx(value["loop, median"] / value["step, median"])
  hours = value["loop, median"] / 1e3 * 1200 / 3600
  assert value["whole run (1,200 steps)"] == pytest.approx(hours / 24)
  assert figures["whole run (1,200 steps)"]["unit"] == "days"
  assert value["whole run, all devices"] == pytest.approx(hours * jax.device_count())
  assert value["pipeline / step"] == pytest.approx(value["pipeline alone"] / value["clips consumed"])
  assert 0 < value["compilation, from cache"] < value["compilation, cold"]
  assert value["peak memory"] > 0
  parts = sum(value for name, value in value.items() if name.startswith("  "))
  assert parts == pytest.approx(value["FLOPs from layer shapes"])
  assert value["FLOPs of traced products"] == value["FLOPs from layer shapes"]
  # Every device repeats the work on weights.
  assert value["compiled / layer shapes"] > 1
  seconds, peak = value["step, median"] / 1e3, 0.001e12 * jax.device_count()
  assert value["MFU"] == pytest.approx(100 * value["FLOPs from layer shapes"] * 1e9 / seconds / peak)
  assert figures["loop / step"]["at_most"] == 1.03
  assert figures["loop / step"]["met"] in (True, False)
  printed = capsys.readouterr().out
  assert all(name in printed for name in value)


def test_a_single_bare_step_is_timed_without_the_loop(words, tmp_path, monkeypatch):
  def compile_once(experiment, phase):
    traced = compilation.trace_step(experiment, phase)
    step = traced.lower().compile()
    return compilation.Compilation(program=traced.jaxpr.jaxpr, step=step, lowering=0.0, cold=0.0, cached=None)

  monkeypatch.setattr(bench, "compile_twice", compile_once)
  out = tmp_path / "figures.jsonl"
  assert cli.dispatch([*words, "--no_loop", "--no_data", "--steps=1", f"--out={out}"]) == 0
  head, *lines = map(json.loads, out.read_text().splitlines())
  value = {line["name"]: line["value"] for line in lines}
  assert head["steps"] == 1
  assert value["step, median"] == value["step, fastest"] > 0
  assert not {"loop, median", "loop / step", "pipeline alone"} & value.keys()
  assert value["whole run (1,200 steps)"] == pytest.approx(value["step, median"] / 1e3 * 1200 / 3600 / 24)
  assert value["FLOPs of traced products"] == value["FLOPs from layer shapes"]


def test_an_estimate_from_the_command_line(words, tmp_path, capsys):
  out = tmp_path / "figures.jsonl"
  assert cli.dispatch([*words, "--estimate", "--device_kind=TPU v2", "--mfu=0.5", f"--out={out}"]) == 0
  head, *lines = map(json.loads, out.read_text().splitlines())
  assert (head["experiment"], head["device_kind"], head["mfu"]) == ("trivd_shape_motion:smoke", "TPU v2", 0.5)
  value = {line["name"]: line["value"] for line in lines}
  gflop = value["FLOPs from layer shapes"]
  assert value["whole run, all chips"] == pytest.approx(gflop * 1e9 * 1200 / (0.5 * 45e12) / 3600)
  assert "assumed: 50 % of 45 TFLOP/s a chip (TPU v2)" in capsys.readouterr().out


def test_a_table_from_the_command_line(words, tmp_path, capsys):
  out = tmp_path / "table.jsonl"
  chosen = ["--table", "decompositions", "--rows=dvd_gan_fp,faster", "--steps=2"]
  assert cli.dispatch([*words, *chosen, f"--out={out}"]) == 0
  head, first, second, goal = map(json.loads, out.read_text().splitlines())
  assert (head["experiment"], head["table"], head["batch"]) == ("trivd_shape_motion:smoke", "decompositions", 8)
  assert [(row["name"], row["judges"], row["pixels"]) for row in (first, second)] == [
    ("dvd_gan_fp", "2 F + dV", 2 * 8 * 8 + 3 * 4 * 4),
    ("faster", "2 dF + crV", (2 + 3) * 4 * 4),
  ]
  assert first["ratio"] == 1
  assert second["ratio"] == second["ms"] / first["ms"] == goal["value"]
  assert max(first["kilosteps"], second["kilosteps"]) == 1000
  assert first["kilosteps"] * first["ms"] == pytest.approx(second["kilosteps"] * second["ms"])
  assert first["parameters"] == second["parameters"] > 0
  assert first["gflop"] > second["gflop"] > 0
  assert first["gb"] > 0
  assert (goal["name"], goal["at_most"], goal["note"]) == ("faster / dvd_gan_fp", 0.85, "the paper: 0.844")
  assert second["published"] == {"ms": 453, "gb": 3.54, "kilosteps": 817}
  printed = capsys.readouterr().out
  assert "2 dF + crV" in printed
  assert "<= 0.85" in printed


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("--steps=3", "--steps=3 must be at least 4; --no_loop times the bare step alone, even a single one"),
    ("--no_loop --steps=0", "--steps=0 must be at least 1"),
    ("--table=units --steps=0", "--steps=0 must be at least 1"),
    ("--table=units --estimate", "--table and --estimate do not go together"),
    ("--rows=faster", "--rows needs --table"),
    ("--table=decompositions --rows=faster,weaker", "--rows: 'weaker' is not one of clip, downsampled"),
    ("--estimate --mfu=1.5", "--mfu=1.5 must be above 0 and at most 1"),
    ("--estimate --device_kind=abacus", "--device_kind=abacus: "),
    ("--peak_tflops=-1", "--peak_tflops=-1.0 must be positive"),
    ("--out={tmp}/a_file/out.jsonl", "cannot be written"),
    ("--config.data.data_dir={tmp}", "vidgen data build shape_motion"),
  ],
)
def test_mistakes_are_told_before_anything_is_measured(flag, expected, repository, tmp_path, capsys):
  (tmp_path / "a_file").write_text("")
  words = [
    "bench",
    f"--config={repository}/experiments/trivd_shape_motion.py:smoke",
    *flag.format(tmp=tmp_path).split(),
  ]
  assert cli.dispatch(words) == 2
  assert expected in capsys.readouterr().err


def test_a_feature_network_is_timed_and_its_memory_looked_at(tmp_path, capsys):
  out = tmp_path / "bench.jsonl"
  words = ["--network=r3d18", "--width=2", "--clip=5x16x16x3", "--clips=90", "--feature_batch=8", f"--out={out}"]
  assert cli.dispatch(["bench", *words]) == 0
  head, *rows = (json.loads(line) for line in out.read_text().splitlines())
  assert (head["experiment"], head["clip"], head["batch"]) == ("r3d18", "5x16x16x3", 8)
  values = {row["name"]: row["value"] for row in rows}
  assert values["clips"] > 1
  assert values["peak memory, all clips"] >= values["peak memory, few clips"] > 10
  assert values["all / few"] == values["peak memory, all clips"] / values["peak memory, few clips"]
  assert "clips/s" in capsys.readouterr().out


def test_random_clips_are_made_when_they_are_asked_for():
  clips = extraction_timing.RandomClips(1000, (4, 2, 2, 3))
  first, second = clips.batches(3, indices=[0, 1, 4, 2])
  assert (first.shape, second.shape) == ((3, 4, 2, 2, 3), (1, 4, 2, 2, 3))
  np.testing.assert_array_equal(first[0, 1:], first[1, :-1])  # windows into one pool, a frame apart
  np.testing.assert_array_equal(first[0], first[2])  # every fourth is the same


def test_warping_is_measured(tmp_path, capsys):
  out = tmp_path / "warp.jsonl"
  assert cli.dispatch(["bench", "--warp=1x4x4x2", "--steps=2", f"--out={out}"]) == 0
  head, *lines = map(json.loads, out.read_text().splitlines())
  assert (head["experiment"], head["state"], head["steps"]) == ("warp", "1x4x4x2", 2)
  assert {"shifted, factorised: gradients", "shifted / gathered, pixelwise: forward"} <= {
    line["name"] for line in lines
  }
  assert "shifted / gathered" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ([], "give either --config of an experiment or --network"),
    (["--network=r3d18", "--table=units"], "--network and --table do not go together"),
    (["--network=r3d18", "--clip=16x64x64"], "--clip=16x64x64 must be written as 16x64x64x3"),
    (["--network=i3d", "--clip=8x64x64x3"], "--network=i3d cannot be made for --clip=8x64x64x3"),
    (["--warp=8x32x32"], "--warp=8x32x32 must be written as 8x32x32x64"),
    (["--warp=8x32x32x64", "--network=i3d"], "give either --config"),
  ],
)
def test_mistakes_in_place_of_a_config_are_one_line(words, message, vidgen):
  assert message in vidgen("bench", *words)
