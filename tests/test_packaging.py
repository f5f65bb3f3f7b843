"""The package's metadata, the pinned versions and the scripts agree with each other."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vidgen_jax

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / "launch" / "slurm.sbatch", ROOT / ".ci" / "run"]
TOP_LEVEL = {
  ".ci",
  ".github",
  ".gitignore",
  ".pre-commit-config.yaml",
  "BUILD_NOTES.md",
  "CHANGELOG.md",
  "LICENSE",
  "README.md",
  "docs",
  "experiments",
  "launch",
  "mkdocs.yml",
  "pyproject.toml",
  "tests",
  "vidgen_jax",
}


def pins() -> dict[str, str]:
  """Version by package, from launch/constraints.txt."""
  lines = (ROOT / "launch" / "constraints.txt").read_text(encoding="utf-8").splitlines()
  found = {}
  for line in lines:
    if line and not line.startswith("#"):
      assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
      name, version = line.split("==")
      assert canonicalize_name(name) not in found, name
      found[canonicalize_name(name)] = version
  return found


def test_version_is_written_once_in_effect():
  assert vidgen_jax.__version__ == PROJECT["version"]


def test_python_and_console_script():
  assert PROJECT["requires-python"] == ">=3.11"
  assert PROJECT["scripts"] == {"vidgen": "vidgen_jax.cli:main"}


def test_extras():
  extras = PROJECT["optional-dependencies"]
  assert set(extras) == {"cuda13", "tpu", "k8s", "tensorboard", "plot", "gcs", "beam", "parity", "dev"}
  names = {extra: {Requirement(r).name for r in requirements} for extra, requirements in extras.items()}
  assert names["tensorboard"] == {"tensorboard", "tensorflow-cpu"}
  assert names["parity"] == {"torch"}
  for extra in ("cuda13", "tpu", "k8s"):
    (requirement,) = map(Requirement, extras[extra])
    assert (requirement.name, requirement.extras) == ("jax", {extra})


@pytest.mark.parametrize("extra", [None, "dev", "tensorboard", "plot", "gcs"])
def test_every_dependency_is_pinned_within_its_bounds(extra):
  pinned = pins()
  for text in PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]:
    requirement = Requirement(text)
    version = pinned.get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in launch/constraints.txt"
    assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


def test_no_dependency_loads_tensorflow():
  assert not [
    r for r in PROJECT["dependencies"] if Requirement(r).name in ("tensorflow", "tensorflow-cpu", "tensorboard")
  ]


def test_license_is_the_whole_apache_2():
  text = (ROOT / "LICENSE").read_text(encoding="utf-8")
  assert "Version 2.0, January 2004" in text
  assert "END OF TERMS AND CONDITIONS" in text
  assert PROJECT["license"] == "Apache-2.0"


def test_the_package_is_marked_as_typed():
  assert (ROOT / "vidgen_jax" / "py.typed").is_file()


def test_the_top_level_holds_nothing_else():
  result = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
  if result.returncode:
    pytest.skip("not a git checkout")
  assert {line.split("/")[0] for line in result.stdout.splitlines()} - TOP_LEVEL == set()


def test_the_scripts_are_there():
  assert {"setup.sh", "test.sh", "demo.sh", "local.sh", "tpu_pod.sh"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_stop_at_errors_and_are_executable(script):
  text = script.read_text(encoding="utf-8")
  assert text.startswith("#!/usr/bin/env bash\n")
  assert re.search(r"^set -euo pipefail$", text, re.MULTILINE)
  assert os.access(script, os.X_OK)
  subprocess.run(["bash", "-n", script], check=True)


def test_ci_runs_the_test_script():
  assert "exec bash launch/test.sh" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_scripts_and_pins_name_no_package_index():
  for path in (*SCRIPTS, ROOT / "launch" / "constraints.txt", ROOT / "pyproject.toml"):
    assert not re.search(r"index-url|find-links|trusted-host", path.read_text(encoding="utf-8")), path
