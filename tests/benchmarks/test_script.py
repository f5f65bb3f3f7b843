"""Flags and output of the scripts in benchmarks/."""

import json
import sys

import pytest

from benchmarks import extraction, paper_table, script, warp
from benchmarks.script import parse_shape, run_script
from vidgen_jax.errors import UserError


def test_a_script_prints_its_report_and_writes_it_to_a_file(tmp_path, monkeypatch, capsys):
  out = tmp_path / "warp.jsonl"
  monkeypatch.setattr(sys, "argv", ["warp.py", "--state=1x4x4x2", "--steps=2", f"--out={out}"])
  run_script(warp._define_flags, warp.report)
  head, *lines = map(json.loads, out.read_text().splitlines())
  assert (head["experiment"], head["state"], head["steps"]) == ("warp", "1x4x4x2", 2)
  assert {"shifted, factorised: gradients", "shifted / gathered, pixelwise: forward"} <= {
    line["name"] for line in lines
  }
  assert "shifted / gathered" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("module", "words", "message"),
  [
    (warp, ["--state=8x32x32"], "--state=8x32x32 must be written as 8x32x32x64"),
    (extraction, [], "--network is required"),
    (extraction, ["--network=r3d18", "--clip=16x64x64"], "--clip=16x64x64 must be written as 16x64x64x3"),
    (extraction, ["--network=i3d", "--clip=8x64x64x3"], "--network=i3d does not fit --clip=8x64x64x3"),
    (paper_table, ["--table=units", "--steps=0"], "--steps=0"),
    (
      paper_table,
      ["--table=decompositions", "--rows=faster,weaker", "--config=trivd_shape_motion.py:smoke"],
      "--rows: 'weaker' is not one of clip, downsampled",
    ),
  ],
)
def test_mistakes_are_one_line(module, words, message, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["script.py", *words])
  monkeypatch.setattr(script, "check_writable", lambda *_: None)
  with pytest.raises(SystemExit) as error:
    run_script(module._define_flags, module.report)
  assert message in str(error.value.code)


def test_shapes():
  assert parse_shape("state", "8x32x32x64", "1x2x3x4") == (8, 32, 32, 64)
  for text in ("8x32", "8x32x32xa", "0x1x1x1", ""):
    with pytest.raises(UserError, match="must be written as 1x2x3x4"):
      parse_shape("state", text, "1x2x3x4")
