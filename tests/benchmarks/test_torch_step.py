"""The comparison of train steps: figures, checks, and processes that take turns."""

import json
import sys

import pytest

from benchmarks import torch_step
from benchmarks.script import run_script
from benchmarks.step_processes import OutOfMemoryError, Settings
from benchmarks.torch_step import check_parameters, largest_batch, ratios, timing
from experiments import trivd_shape_motion
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import from_config_dict


def test_timing_and_ratios():
  blocks = [{"wall": wall, "cpu": 2 * wall} for wall in (0.4, 0.1, 0.2)]
  row = timing({"first_step_s": 5.2, "flops": 3e9, "peak_flops": 1e11}, blocks, clips=12)
  # Medians 0.2 s and 0.4 s; 3e9 / (0.2 * 1e11) = 15 %.
  assert row["rounds_ms"] == [400, 100, 200]
  found = [row[name] for name in ("step_ms", "cpu_ms", "clips_per_s", "compile_s", "mfu_percent")]
  assert found == pytest.approx([200, 400, 60, 5, 15])
  assert timing({"first_step_s": 5.2, "flops": 3e9}, blocks, clips=12)["mfu_percent"] is None
  ours = {"framework": "jax", "flops": 3e9, "peak_bytes": None, **row}
  other = ours | {"framework": "torch", "flops": 2e9, "step_ms": 100, "cpu_ms": 800, "rounds_ms": [800, 400, 400]}
  assert ratios([ours, other]) == {
    "name": "jax / torch", "ratio": 2, "rounds": [0.5, 0.25, 0.5], "cpu": 0.5, "flops": 1.5, "peak_bytes": None
  }  # fmt: skip


def test_different_numbers_of_parameters_are_an_error():
  first = {"framework": "jax", "parameters": {"generator": 3, "disc": 4}}
  check_parameters([first, {"framework": "torch", "parameters": {"disc": 4, "generator": 3}}])
  with pytest.raises(UserError, match=r"networks differ: jax has .*, torch \{'generator': 3, 'disc': 5\}"):
    check_parameters([first, {"framework": "torch", "parameters": {"generator": 3, "disc": 5}}])


@pytest.mark.parametrize(("limit", "largest"), [(5, 4), (8, 8), (1, None)])
def test_the_largest_batch_doubles_until_memory_is_full(limit, largest, monkeypatch):
  closed = []

  class Process:
    def __init__(self, framework, settings):
      self.size = settings.config.train.batch_size
      if self.size > limit:
        raise OutOfMemoryError("RESOURCE_EXHAUSTED")

    def ask(self, name, steps):
      assert (name, steps) == ("run", 2)

    def close(self):
      closed.append(self.size)

  monkeypatch.setattr(torch_step, "StepProcess", Process)
  config = trivd_shape_motion.get_config("smoke")
  config.train.batch_size = 2
  settings = Settings(config=from_config_dict(config), device="cuda")
  assert largest_batch("jax", settings) == largest
  assert closed == [size for size in (2, 4, 8) if size <= limit]


def _run(monkeypatch, *words):
  monkeypatch.setattr(sys, "argv", ["torch_step.py", "--config=trivd_shape_motion.py:smoke", *words])
  run_script(torch_step._define_flags, torch_step.report)


@pytest.mark.parametrize(
  ("flag", "message"), [("--max_batch", "--max_batch needs --device=cuda"), ("--null", "--null needs one --framework")]
)
def test_wrong_flags(flag, message, monkeypatch):
  with pytest.raises(SystemExit, match=message):
    _run(monkeypatch, flag)


def test_a_step_that_does_not_fit_is_an_error(monkeypatch):
  def process(framework, settings):
    raise OutOfMemoryError("RESOURCE_EXHAUSTED")

  monkeypatch.setattr(torch_step, "StepProcess", process)
  with pytest.raises(SystemExit, match="jax: the step does not fit into memory"):
    _run(monkeypatch)


TINY = {
  "data.resolution": 8,
  "train.batch_size": 2,
  "algorithm.generator_multipliers": (1,),
  "algorithm.upsampled_multipliers": (1,),
  "algorithm.discriminator_multipliers": (1,),
  "algorithm.temporal_blocks": 1,
}


@pytest.mark.parametrize(
  "framework", ["torch", pytest.param("both", marks=pytest.mark.slow, id="both, which compiles a step")]
)
def test_the_script_measures(framework, tmp_path, monkeypatch, capsys):
  pytest.importorskip("torch", reason="needs the extra `parity`")
  words = [f"--config.{name}={value}" for name, value in TINY.items()]
  out = tmp_path / "steps.jsonl"
  _run(monkeypatch, *words, f"--framework={framework}", "--steps=1", "--rounds=2", f"--out={out}")
  head, *rows, config = map(json.loads, out.read_text().splitlines())
  assert (head["experiment"], head["batch"], head["device_kind"]) == ("trivd_shape_motion:smoke", 2, "cpu")
  assert config["config"]["data"]["resolution"] == 8
  assert [len(row["rounds_ms"]) for row in rows[:2] if "framework" in row] == [2] * (2 if framework == "both" else 1)
  assert all(0 < row["step_ms"] < 1e3 * row["first_step_s"] for row in rows[:2] if "framework" in row)
  if framework == "both":
    jax_row, torch_row, ratio = rows
    assert jax_row["parameters"] == torch_row["parameters"]
    assert ratio["flops"] == pytest.approx(1, abs=0.05)
    # A process that waits uses no CPU.
    assert jax_row["idle_cpu_s"] < 0.2 and torch_row["idle_cpu_s"] < 0.2
    assert "jax / torch: time" in capsys.readouterr().out
