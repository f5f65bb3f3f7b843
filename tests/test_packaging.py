"""The package's metadata, the pinned versions and the scripts agree with each other."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vidgen_jax

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]
TOP_LEVEL = {
  ".ci",
  ".github",
  ".gitignore",
  ".pre-commit-config.yaml",
  "BUILD_NOTES.md",
  "CHANGELOG.md",
  "LICENSE",
  "README.md",
  "experiments",
  "launch",
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
  assert set(extras) == {"cuda13", "tpu", "tensorboard", "plot", "beam", "parity", "dev"}
  names = {extra: {Requirement(r).name for r in requirements} for extra, requirements in extras.items()}
  assert names["tensorboard"] == {"tensorboard", "tensorflow-cpu"}
  assert names["parity"] == {"torch"}
  for extra in ("cuda13", "tpu"):
    (requirement,) = map(Requirement, extras[extra])
    assert (requirement.name, requirement.extras) == ("jax", {extra})


@pytest.mark.parametrize("extra", [None, "dev", "tensorboard", "plot"])
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
  if shutil.which("shellcheck"):
    subprocess.run(["shellcheck", script], check=True)


def test_ci_runs_the_test_script():
  assert "exec bash launch/test.sh" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_scripts_and_pins_name_no_package_index():
  for path in (*SCRIPTS, ROOT / "launch" / "constraints.txt", ROOT / "pyproject.toml"):
    assert not re.search(r"index-url|find-links|trusted-host", path.read_text(encoding="utf-8")), path


# Scripts run with a PATH of their own, which holds these and the stand-ins that a test adds.
TOOLS = ("bash", "cat", "dirname", "grep", "mkdir", "od", "rm", "sed", "tr", "sort", "env")


@pytest.fixture
def sandbox(tmp_path):
  """A copy of the scripts, and a function that runs one of them with stand-ins on the PATH."""
  bin_folder = tmp_path / "bin"
  bin_folder.mkdir()
  for tool in TOOLS:
    (bin_folder / tool).symlink_to(shutil.which(tool))
  shutil.copytree(ROOT / "launch", tmp_path / "checkout" / "launch")
  shutil.copy(ROOT / "pyproject.toml", tmp_path / "checkout")

  def run(script: str, *arguments: str, **programs: str) -> subprocess.CompletedProcess:
    for name, text in programs.items():
      path = bin_folder / name.replace("_", ".")
      path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
      path.chmod(0o755)
    return subprocess.run(
      ["bash", tmp_path / "checkout" / "launch" / script, *arguments],
      env={"PATH": str(bin_folder), "HOME": str(tmp_path)},
      capture_output=True,
      text=True,
      timeout=60,
      check=False,
    )

  return run


def test_setup_without_python_says_so(sandbox):
  result = sandbox("setup.sh", python3="exit 1", python3_13="exit 127")  # too old, and a shim that does not run
  assert result.returncode == 1
  assert result.stderr == "setup: error: no Python >= 3.11 found; install one, or set VIDGEN_PYTHON to its path\n"


def test_setup_with_python_that_lacks_ensurepip_says_what_to_install(sandbox):
  result = sandbox("setup.sh", python3='[[ "$2" != *ensurepip* ]]')
  assert result.returncode == 1
  assert "python3 has no ensurepip" in result.stderr
  assert "apt-get install python3-venv" in result.stderr


# An interpreter whose `-m venv` makes an environment of itself, and whose pip writes its arguments down.
FAKE_PYTHON = f"""
case "$1 ${{2:-}}" in
  "-m venv")
    mkdir -p "$4/bin"
    cat "${{BASH_SOURCE[0]}}" >"$4/bin/python"
    /bin/chmod +x "$4/bin/python"
    : >"$4/pyvenv.cfg"
    ;;
  "-m pip")
    [[ "$3" != --version ]] || exit 0
    echo "${{@:3}}" >>"$HOME/pip.log"
    [[ ! -e "$HOME/broken" ]]
    ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


def test_setup_installs_once_and_again_when_something_changed(sandbox, tmp_path):
  def installs() -> list[str]:
    return (tmp_path / "pip.log").read_text().splitlines()

  (tmp_path / "broken").touch()
  assert sandbox("setup.sh", python3=FAKE_PYTHON).returncode == 1  # the installation fails half-way
  (tmp_path / "broken").unlink()
  for _ in range(2):  # the second run has nothing to do
    result = sandbox("setup.sh")
    assert result.returncode == 0, result.stderr
    assert len(installs()) == 2
  assert result.stderr == ""
  assert "launch/constraints.txt" in installs()[0]
  assert installs()[0].rstrip().endswith("/checkout[dev,tensorboard]")
  with (tmp_path / "checkout" / "launch" / "constraints.txt").open("a") as file:
    file.write("something==1.0\n")
  assert sandbox("setup.sh").returncode == 0
  assert len(installs()) == 3
  sandbox("setup.sh", nvidia_smi="exit 0")  # not the program's name: nothing changes
  assert len(installs()) == 3
  gpu = tmp_path / "bin" / "nvidia-smi"
  gpu.write_text(f"#!{shutil.which('bash')}\necho 'GPU 0: a GPU'\n")
  gpu.chmod(0o755)
  assert sandbox("setup.sh").returncode == 0
  assert installs()[-1].rstrip().endswith("[dev,tensorboard,cuda13]")


POD = ("--name=pod", "--zone=zone-a")


@pytest.mark.parametrize(
  ("words", "expected"),
  [
    (("create",), ["tpu-vm create pod", "tar -C", "tpu-vm scp", "tpu,tensorboard"]),
    (("run", "--config=a.py:paper", "--workdir=gs://b/it's"), [r"--config=a.py:paper"]),
    (("log",), ["--worker=0"]),
    (("fetch", "gs://b/run", "out"), ["gcloud storage cp --recursive gs://b/run out"]),
    (("fetch", "run", "out"), ["tpu-vm scp --recurse pod:run out"]),
    (("delete",), ["tpu-vm delete pod --zone=zone-a --quiet"]),
  ],
)
def test_tpu_pod_dry_run_prints_each_command_and_runs_none(words, expected, sandbox, tmp_path):
  result = sandbox("tpu_pod.sh", "--dry-run", *POD, *words, gcloud='echo "$@" >>"$HOME/called"')
  assert result.returncode == 0, result.stderr
  lines = result.stdout.replace("\\", "").splitlines()
  for text in expected:
    assert any(text in line for line in lines), (text, lines)
  assert not (tmp_path / "called").exists()
  assert not (tmp_path / "checkout" / ".cache").exists()


GCLOUD = """
echo "$*" >>"$HOME/called"
case "$*" in
  *" list "*) echo "projects/p/locations/z/nodes/$(cat "$HOME/slices" 2>/dev/null)" ;;
  *"tpu-vm create "*)
    echo pod >"$HOME/slices"
    echo "$*" | sed 's/.*created-by=//' >"$HOME/label"
    ;;
  *"value(state)"*) echo READY ;;
  *"value(labels.created-by)"*) cat "$HOME/label" ;;
  *"tpu-vm delete "*) rm "$HOME/slices" ;;
esac
"""


def test_tpu_pod_creates_once_and_deletes_only_what_it_created(sandbox, tmp_path):
  def called(verb: str) -> int:
    log = tmp_path / "called"
    return log.read_text().count(f"tpu-vm {verb} ") if log.exists() else 0

  programs = {"gcloud": GCLOUD, "tar": "exit 0"}
  (tmp_path / "slices").write_text("pod")  # somebody else's
  refused = sandbox("tpu_pod.sh", *POD, "delete", **programs)
  assert (refused.returncode, called("delete")) == (2, 0)
  assert "did not create pod" in refused.stderr
  (tmp_path / "slices").unlink()
  for _ in range(2):
    assert sandbox("tpu_pod.sh", *POD, "create").returncode == 0
    assert called("create") == 1
  label = (tmp_path / "label").read_text()
  (tmp_path / "label").write_text("another\n")  # deleted and made anew by somebody else
  refused = sandbox("tpu_pod.sh", *POD, "delete")
  assert (refused.returncode, called("delete")) == (2, 0)
  (tmp_path / "label").write_text(label)
  assert sandbox("tpu_pod.sh", *POD, "delete").returncode == 0
  assert called("delete") == 1
  assert sandbox("tpu_pod.sh", *POD, "delete").returncode == 2  # no record of it any more


def test_tpu_pod_says_what_is_missing(sandbox):
  for words, text in (
    (("run",), "--name and --zone are required"),
    ((*POD, "erase"), "unknown action erase"),
    ((*POD,), "an action is missing"),
    (("--nam=x", "run"), "unknown option --nam=x"),
    (("--dry-run", *POD, "run"), "run needs the arguments of vidgen train"),
  ):
    result = sandbox("tpu_pod.sh", *words)
    assert result.returncode == 2
    assert text in result.stderr
