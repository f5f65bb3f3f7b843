"""`vidgen data bench`: table and file of figures, and the forecast of workers."""

import json

import pytest

from vidgen_jax import cli
from vidgen_jax.commands import data_bench
from vidgen_jax.data.datasets.shape_motion import ShapeMotionOptions, build_shape_motion

pytest_plugins = ("tests.trained_runs",)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("shapes")
  build_shape_motion(ShapeMotionOptions(name="shapes", data_dir=str(data_dir), num_clips=10))
  return data_dir


def test_the_command_from_end_to_end(data_dir, tmp_path, capsys):
  out = tmp_path / "figures.jsonl"
  words = ["data", "bench", "shapes", f"--data_dir={data_dir}", "--workers=0,1", "--frames=4", "--resolution=16"]
  words += ["--batch_size=4", "--seconds=0.2", "--step_ms=1e6", f"--out={out}"]
  assert cli.dispatch(words) == 0
  printed = capsys.readouterr().out
  head, *figures = map(json.loads, out.read_text().splitlines())
  assert (head["experiment"], head["frames"], head["resolution"], head["batch"]) == ("shapes", 4, 16, 4)
  values = {figure["name"].strip(): figure["value"] for figure in figures}
  assert all(name in printed for name in values)
  shares = [values[stage] for stage in ("read", "parse", "decode", "resize and crop", "batch", "transfer")]
  assert sum(shares) == pytest.approx(100)
  assert values["clips, no worker"] > 0
  assert values["clips, 1 workers"] > 0
  assert values["frames of a window"] < values["record read for a window"]
  # Four clips in a thousand seconds: reading in the training process suffices.
  assert (values["clips wanted"], values["workers needed"]) == (0.004, 0)
  # There is no goal for clips as short as 32 frames.
  (window,) = [figure for figure in figures if figure["name"] == "window / whole clip"]
  assert (window["at_most"], window["met"]) == (None, None)
  assert window["note"].startswith("4 of 32 frames")


@pytest.mark.parametrize(
  ("speeds", "needed", "how", "cores"),
  [
    # 8 clips in 20 ms are 400 a second. A worker has 2 threads, and the machine 6 cores.
    ({0: 100.0, 1: 90.0, 2: 180.0}, 5, "extrapolated from 1,", 9),  # 400 / 90 = 4.4 workers, 400 / 45 = 8.9 cores
    ({0: 100.0, 4: 320.0}, 5, "extrapolated from 4,", 8),  # 400 / 80; four workers kept all six cores busy: 400 / 53.3
    ({0: 100.0}, 4, "extrapolated from 1,", 8),
    ({0: 450.0, 1: 420.0}, 0, "measured", 2),
    ({1: 300.0, 2: 380.0, 4: 500.0}, 4, "measured", 3),
  ],
)
def test_workers_are_computed_from_measured_speeds(speeds, needed, how, cores):
  figures = data_bench.workers_needed(speeds, clips=8, step_ms=20.0, threads=2, cores=6)
  assert [figure.value for figure in figures] == [pytest.approx(400), needed, cores]
  assert figures[1].note.startswith(how)
  assert figures[2].note.endswith("this machine has 6")


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--workers=1,two"], "--workers=1,two must be numbers"),
    (["--seconds=0"], "--seconds=0 must be positive"),
    (["--step_ms=-1"], "--step_ms=-1 must be positive"),
    (["--clips=3"], "--clips does not apply to `vidgen data bench`"),
    (["--num_clips=3"], "--num_clips does not apply to `vidgen data bench`"),
    (["--frames=33"], "no clip of 33 frames"),
    (["--split=validation"], "no split 'validation'"),
    (["--out=/dev/null/a.jsonl"], "--out"),
  ],
)
def test_user_errors_are_one_line(words, message, data_dir, vidgen):
  assert message in vidgen("data", "bench", "shapes", f"--data_dir={data_dir}", "--workers=0", *words)


def test_flags_of_bench_are_refused_by_other_actions(data_dir, vidgen):
  assert "--workers does not apply to `vidgen data inspect`" in vidgen(
    "data", "inspect", "shapes", f"--data_dir={data_dir}", "--workers=1"
  )
