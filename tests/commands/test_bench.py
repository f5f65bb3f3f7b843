"""`vidgen bench` on a small data set, and mistakes in its flags."""

import json

import jax
import pytest

from tests.tiny_experiment import TINY
from vidgen_jax import cli
from vidgen_jax.bench import compilation, reports
from vidgen_jax.data.datasets.shape_motion import ShapeMotionOptions, build_shape_motion

pytest_plugins = ("tests.trained_runs",)


@pytest.fixture
def words(repository, tmp_path_factory):
  """Words of `vidgen bench` with the tiny experiment and a small data set."""
  data_dir = tmp_path_factory.mktemp("data")
  build_shape_motion(ShapeMotionOptions(name="shape_motion", data_dir=str(data_dir), num_clips=40))
  quick = TINY | {"algorithm.discriminator_steps": 1, "train.num_steps": 1200}
  overrides = [f"--config.{name}={value}" for name, value in quick.items()]
  config = f"--config={repository}/experiments/trivd_shape_motion.py:smoke"
  return ["bench", config, f"--config.data.data_dir={data_dir}", *overrides]


@pytest.mark.slow
def test_all_figures_of_an_experiment(words, tmp_path, capsys):
  out = tmp_path / "new" / "figures.jsonl"
  cache = jax.config.jax_compilation_cache_dir
  try:
    assert cli.dispatch([*words, "--steps=4", "--peak_tflops=0.001", f"--out={out}"]) == 0
    assert jax.config.jax_compilation_cache_dir == cache  # the temporary cache is removed
  finally:
    jax.config.update("jax_compilation_cache_dir", cache)
  head, *lines = map(json.loads, out.read_text().splitlines())
  figures = {line["name"]: line for line in lines}
  value = {name: line["value"] for name, line in figures.items()}
  assert (head["experiment"], head["devices"], head["steps"]) == ("trivd_shape_motion:smoke", jax.device_count(), 4)
  assert 0 < value["step, fastest"] <= value["step, median"]
  # A step consumes two micro-batches of 8 clips.
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
  # Products of weights run on every device.
  repeated = (jax.device_count() - 1) * value["  gen: weights alone"]
  assert value["FLOPs of traced products"] == pytest.approx(value["FLOPs from layer shapes"] + repeated)
  # Every device repeats the work that depends on weights alone.
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

  monkeypatch.setattr(reports, "compile_twice", compile_once)
  out = tmp_path / "figures.jsonl"
  assert cli.dispatch([*words, "--no_loop", "--no_data", "--steps=1", f"--out={out}"]) == 0
  head, *lines = map(json.loads, out.read_text().splitlines())
  value = {line["name"]: line["value"] for line in lines}
  assert head["steps"] == 1
  assert value["step, median"] == value["step, fastest"] > 0
  assert not {"loop, median", "loop / step", "pipeline alone"} & value.keys()
  assert value["whole run (1,200 steps)"] == pytest.approx(value["step, median"] / 1e3 * 1200 / 3600 / 24)
  # Products of weights run on every device.
  repeated = (jax.device_count() - 1) * value["  gen: weights alone"]
  assert value["FLOPs of traced products"] == pytest.approx(value["FLOPs from layer shapes"] + repeated)


def test_an_estimate(words, tmp_path, capsys):
  out = tmp_path / "figures.jsonl"
  assert cli.dispatch([*words, "--estimate", "--device_kind=TPU v2", "--mfu=0.5", f"--out={out}"]) == 0
  head, *lines = map(json.loads, out.read_text().splitlines())
  assert (head["experiment"], head["device_kind"], head["mfu"]) == ("trivd_shape_motion:smoke", "TPU v2", 0.5)
  value = {line["name"]: line["value"] for line in lines}
  gflop = value["FLOPs from layer shapes"]
  assert value["whole run, all chips"] == pytest.approx(gflop * 1e9 * 1200 / (0.5 * 45e12) / 3600)
  assert "assumed: 50 % of 45 TFLOP/s a chip (TPU v2)" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("--steps=3", "--steps=3 must be at least 4; --no_loop times the bare step alone, even a single one"),
    ("--no_loop --steps=0", "--steps=0 must be at least 1"),
    ("--collectives=2 --estimate", "--collectives and --estimate exclude each other"),
    ("--estimate --steps=9", "--steps has no effect with --estimate; leave it out"),
    ("--profile --no_loop", "--no_loop has no effect with --profile"),
    ("--mfu=0.5", "--mfu needs --estimate or --scaling"),
    ("--estimate --mfu=1.5", "--mfu=1.5 must be above 0 and at most 1"),
    ("--estimate --device_kind=abacus", "--device_kind=abacus: "),
    ("--peak_tflops=-1", "--peak_tflops=-1.0 must be positive"),
    ("--out={tmp}/a_file/out.jsonl", "cannot be written"),
    ("--config.data.data_dir={tmp}", "vidgen data build shape_motion"),
  ],
)
def test_mistakes_are_reported_before_the_measurement(flag, expected, repository, tmp_path, capsys):
  (tmp_path / "a_file").write_text("")
  words = [
    "bench",
    f"--config={repository}/experiments/trivd_shape_motion.py:smoke",
    *flag.format(tmp=tmp_path).split(),
  ]
  assert cli.dispatch(words) == 2
  assert expected in capsys.readouterr().err
