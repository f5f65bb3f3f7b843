"""The GPU kit: its order, time limits and results with a fake interpreter, its tables, and a rehearsal on the CPU."""

import importlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags

from benchmarks import convolution_forms, gpu_summary
from benchmarks.convolution_forms import Shape
from experiments import mvt_weizmann
from vidgen_jax.cli import COMMANDS
from vidgen_jax.commands.flag_parsing import parse_flags
from vidgen_jax.nn.convolution import convolve
from vidgen_jax.runs.config import from_config_dict

SECTIONS = ["trivd", "inbetween", "mvt", "training", "i3d", "convolutions", "batch512"]

# Logs its arguments, and records sections; BENCH is the exit status of `vidgen bench`, TORCH that of importing PyTorch.
_FAKE_PYTHON = """#!/usr/bin/env bash
(IFS=$'\\t'; printf '%s\\n' "$*" >>"$FAKE/calls")
[[ "$*" == *"import torch"* ]] && exit "${TORCH:-0}"
out="${@: -1}"
if [[ "$*" == *gpu_summary.py\\ record* ]]; then printf '"rc": %s' "${BENCH:-0}" >"${out#--out=}/$3.json"; fi
[[ "$*" == *" bench "* ]] && exit "${BENCH:-0}"
exit 0
"""


@pytest.fixture
def kit(tmp_path, repository):
  """Runs a copy of the script with a fake interpreter, and returns (finished process, calls of the interpreter)."""
  python = tmp_path / "venv" / "bin" / "python"
  python.parent.mkdir(parents=True)
  python.write_text(_FAKE_PYTHON)
  python.chmod(0o755)
  script = tmp_path / "checkout" / "benchmarks" / "gpu_kit.sh"
  script.parent.mkdir(parents=True)
  shutil.copy(repository / "benchmarks" / "gpu_kit.sh", script)

  def run(*arguments, **environment):
    (tmp_path / "calls").write_text("")
    environment = os.environ | {"VIDGEN_VENV": str(tmp_path / "venv"), "FAKE": str(tmp_path)} | environment
    command = ["bash", script, f"--out={tmp_path / 'out'}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, [line.split("\t") for line in (tmp_path / "calls").read_text().splitlines()]

  return run


def _recorded(calls):
  return [call[2] for call in calls if call[:2] == ["benchmarks/gpu_summary.py", "record"]]


def _parsed(call):
  """The flags of a call of a command of vidgen or of a benchmark script, which must accept them."""
  flag_values = flags.FlagValues()
  if call[0] == "-m":
    name, words = call[2], call[3:]
    importlib.import_module(COMMANDS[name].module).define_flags(flag_values)
  else:
    name, words = Path(call[0]).stem, call[1:]
    flags.DEFINE_string("out", None, "", flag_values=flag_values)
    importlib.import_module(f"benchmarks.{name}")._define_flags(flag_values)
  parse_flags(words, flag_values, command=name)
  return flag_values


def test_all_sections_run_in_order_and_only_once(kit, tmp_path):
  done, calls = kit()
  assert done.returncode == 0, done.stderr
  assert _recorded(calls) == SECTIONS
  assert sum("--torch_compile" in call for call in calls) == 3
  (tmp_path / "out" / "mvt.json").unlink()
  for path in (tmp_path / "checkout" / ".gpu" / "work").glob("mvt.*"):
    path.unlink()
  assert _recorded(kit()[1]) == ["mvt"]


def test_failures_are_recorded_and_a_smaller_batch_is_tried(kit, tmp_path):
  done, calls = kit(BENCH="3", TORCH="1")
  assert done.returncode == 0, done.stderr
  assert _recorded(calls) == [*SECTIONS, "batch256"]
  part = gpu_summary.read_part(tmp_path / "checkout" / ".gpu" / "work", "trivd.ours")
  assert (part["rc"], part["error"], part["figures"]) == (3, "exit status 3: no output", [])
  assert not any("benchmarks/torch_step.py" in call for call in calls)
  assert gpu_summary.read_part(tmp_path / "checkout" / ".gpu" / "work", "i3d.torch")["error"] == "no PyTorch"


def test_all_commands_are_valid(kit, monkeypatch, repository):
  monkeypatch.chdir(repository)
  _, calls = kit()
  parsed = {}
  for call in calls:
    if (call[0].endswith(".py") and "gpu_summary" not in call[0]) or call[:2] == ["-m", "vidgen_jax"]:
      parsed.setdefault(Path(call[0]).stem if call[0] != "-m" else call[2], []).append(_parsed(call))
  counts = {"bench": 4, "train": 1, "evaluate": 1, "torch_step": 4, "extraction": 1, "convolution_forms": 1}
  assert {name: len(found) for name, found in parsed.items()} == counts
  (training,) = parsed["train"]
  config = from_config_dict(training.config)
  assert (config.data.resolution, config.algorithm.generator_multipliers) == (64, (4, 2, 1))
  assert [from_config_dict(bench.config).train.batch_size for bench in parsed["bench"]] == [64, 32, 40, 512]
  assert from_config_dict(parsed["bench"][0].config).algorithm.compute_dtype == "bfloat16"


def test_sections_that_do_not_fit_are_left_for_the_next_call(kit):
  done, calls = kit("--minutes=2")
  assert _recorded(calls) == ["inbetween", "mvt", "i3d", "convolutions"]
  assert "trivd: too little time left; call this script again" in done.stdout
  assert _recorded(kit()[1]) == ["trivd", "training", "batch512"]


def test_time_limits_leave_the_others_their_time(kit, tmp_path):
  kit()
  limits = {path.stem: int(path.read_text().splitlines()[2]) for path in (tmp_path / "checkout").rglob("*.part")}
  guaranteed = {"trivd.torch": 60, "trivd.eager": 20, "inbetween.ours": 45, "inbetween.torch": 25, "mvt.ours": 50}
  guaranteed |= {"mvt.torch": 25, "training.ours": 115, "training.scores": 30, "i3d.ours": 30, "i3d.torch": 30}
  # 50 s for the convolutions; a few seconds may have passed.
  spare = 720 - sum(guaranteed.values()) - 50
  assert 225 <= spare - 15 <= limits["trivd.ours"] <= spare
  assert limits["training.ours"] == 240
  assert 700 <= limits["convolutions.ours"] <= 720


def test_an_unknown_option_is_an_error(kit):
  done, calls = kit("--fast")
  assert (done.returncode, calls) == (2, [])
  assert "unknown option --fast" in done.stderr


def _figures(rows, error=None):
  return {"figures": rows, "error": error}


def test_tables_without_results_have_no_figures():
  text = "".join(map(gpu_summary.layout, gpu_summary.tables({})))
  rows = [row for table in gpu_summary.tables({}) for row in table.rows]
  assert len(rows) == 3 * 6 + 2
  assert {cell for row in rows for cell in row[1:]} == {"not measured"}
  assert text.count("not measured") >= 3 * len(rows)


def test_tables_of_results():
  ours = [
    {"experiment": "x", "device": "NVIDIA H200", "jax": "0.11.2"},
    {"name": "step, median", "value": 320.0},
    {"name": "peak memory", "value": 13 * 1024.0},
    {"name": "MFU", "value": None},
  ]
  # 9.89 TFLOP in 100 ms are 98.9 TFLOP/s, a tenth of the H200's 989.
  row = {"framework": "torch", "device_kind": "NVIDIA H200", "step_ms": 100.0, "clips_per_s": 1920.0, "flops": 9.89e12}
  results = {
    "trivd.ours": _figures(ours),
    "trivd.torch": _figures([{"torch_compile": True}, {**row, "peak_bytes": 2**31, "compile_s": 61.5}]),
    "mvt.torch": _figures([{"torch_compile": False}, {**row, "peak_bytes": None, "compile_s": 0.5}]),
    "trivd.eager": _figures([], "stopped at its time limit of 20 s"),
    "training.ours": _figures([{"step": 50, "disc/loss": 2.0}, {"step": 100, "eval/psnr": 20.0}]),
    "training.scores": _figures([{"metric": "psnr", "subject": "model", "value": 20.5}]),
    "convolutions.ours": _figures(
      [
        {"experiment": "x"},
        {"video": "1x2x4x4x3", "kernel": "3x3x3x3x8", "strides": "1x1x1", "dtype": "float32", "program": "forward"}
        | {"ms": {"native": 2.0, "stacked": 1.0}, "fastest": "stacked"},
      ]
    ),
  }
  speed, training, convolutions, missing = gpu_summary.tables(results)
  assert speed.head[0] == "x etc., NVIDIA H200, jax 0.11.2"
  cells = {row[0]: row[1:] for row in speed.rows}
  none = "not measured"
  assert cells["TrIVD-GAN-FP: step, median"] == ("320.0 ms", "100.0 ms", none)
  assert cells["TrIVD-GAN-FP: MFU"] == (none, "10.00 %", none)
  assert cells["TrIVD-GAN-FP: peak memory"] == ("13.00 GiB", "2.000 GiB", none)
  assert cells["TrIVD-GAN-FP: compilation, cold"] == (none, "61.50 s", none)
  assert cells["MVT-TSA: step, median"] == (none, none, "100.0 ms")
  assert cells["MVT-TSA: compilation, cold"] == (none, none, none)
  assert (training.head, training.rows) == (("training, 100 steps", "model"), [("psnr", "20.50")])
  assert convolutions.rows[0][3:] == ("2.000", "1.000", none, "stacked")
  assert missing.rows == [("trivd.eager", "stopped at its time limit of 20 s")]
  assert gpu_summary.layout(missing).splitlines() == [
    "| part | no figures because |",
    "| --- | --- |",
    "| trivd.eager | stopped at its time limit of 20 s |",
  ]


def test_a_stopped_part_has_no_figures(tmp_path):
  (tmp_path / "trivd.ours.part").write_text("143\n180\n180\nvidgen bench\n")
  (tmp_path / "trivd.ours.jsonl").write_text('{"name": "step, median", "value": 1.0}\n')
  part = gpu_summary.read_part(tmp_path, "trivd.ours")
  assert (part["error"], part["figures"]) == ("stopped at its time limit of 180 s", [])
  (tmp_path / "trivd.ours.part").write_text("0\n17\n180\nvidgen bench\n")
  assert gpu_summary.read_part(tmp_path, "trivd.ours")["figures"] == [{"name": "step, median", "value": 1.0}]


def test_shapes_of_a_train_step():
  shapes = convolution_forms.used_shapes(from_config_dict(mvt_weizmann.get_config("mvt_smoke")))
  # Two layers with 4 channels see 8 real and 8 generated clips of 4 frames.
  strides, pads = (2, 2, 2), ((1, 1),) * 3
  first = Shape((16, 4, 16, 16, 3), (4, 4, 4, 3, 4), strides, pads)
  second = Shape((16, 2, 8, 8, 4), (4, 4, 4, 4, 4), strides, pads)
  assert shapes == [first, second]
  assert first.output == (16, 2, 8, 8, 4)
  assert first.flops == 2 * 16 * 2 * 8 * 8 * 4 * 4 * 4 * 4 * 3


@pytest.mark.parametrize("frames", [1, 3])
def test_forms_of_a_shape_are_timed(frames):
  pads = ((0, 0),) * 3
  shape = Shape((1, 3, 4, 4, 2), (frames, 3, 3, 2, 5), (1, 1, 1), pads)
  forms = {"native", "matmul"} | ({"stacked"} if frames == 3 else set())
  x, kernel = (jax.ShapeDtypeStruct(s, np.float32) for s in (shape.video, shape.kernel))
  assert shape.output == jax.eval_shape(lambda x, kernel: convolve(x, kernel, padding=pads), x, kernel).shape
  for row, program in zip(convolution_forms.measure(shape, "float32"), ("forward", "gradients"), strict=True):
    assert (row["program"], row["video"], row["errors"]) == (program, "1x3x4x4x2", {})
    assert set(row["ms"]) == forms
    assert row["ms"][row["fastest"]] == min(row["ms"].values()) > 0


@pytest.mark.slow
def test_rehearsal_without_pytorch(tmp_path, repository):
  (tmp_path / "torch.py").write_text("raise ImportError")
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  script = repository / "benchmarks" / "gpu_kit.sh"
  done = subprocess.run(
    ["bash", script, "--rehearsal", f"--out={tmp_path / 'out'}"],
    env=environment | {"PYTHONPATH": str(tmp_path)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  parts = {}
  for name in SECTIONS:
    parts |= json.loads((tmp_path / "out" / f"{name}.json").read_text())
  errors = {key: part["error"] for key, part in parts.items() if part["error"]}
  assert errors == dict.fromkeys([key for key in parts if key.endswith((".torch", ".eager"))], "no PyTorch")
  assert all(parts[key]["figures"] for key in parts if key not in errors)
  assert (tmp_path / "out" / "curve.png").exists() and (tmp_path / "out" / "sheet.png").exists()
