"""The type checker finds no errors in the package."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_ty_finds_no_errors():
  pytest.importorskip("tensorboard")  # one module imports it
  ty = shutil.which("ty", path=str(Path(sys.executable).parent))
  if ty is None:
    pytest.skip("ty is not installed; the extra dev contains it")
  command = [ty, "check", "--python", sys.prefix, "--output-format", "concise", "vidgen_jax"]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stdout + result.stderr
