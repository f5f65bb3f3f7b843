"""Checks of all scripts."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KIT = ROOT / "benchmarks" / "gpu_kit.sh"
SCRIPTS = [*(ROOT / "launch").glob("*.sh"), *(ROOT / "launch").glob("*.sbatch"), KIT, ROOT / ".ci" / "run"]
FAKES = list((ROOT / "tests" / "launch").glob("*.sh"))


@pytest.mark.parametrize("script", sorted([*SCRIPTS, *FAKES]), ids=lambda path: path.name)
def test_shellcheck_finds_no_problems(script, shellcheck):
  result = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stdout


def test_launchers_use_the_exit_code_of_a_preemption():
  from vidgen_jax.parallel.processes import PREEMPTED_EXIT_CODE

  for name in ("tpu_pod.sh", "tpu_worker.sh", "slurm.sbatch", "k8s_jobset.yaml"):
    text = (ROOT / "launch" / name).read_text()
    assert str(PREEMPTED_EXIT_CODE) in text
    assert "PREEMPTED_EXIT_CODE" in text
