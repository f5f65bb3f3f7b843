"""Metadata, pinned versions, scripts and the wheel agree with the package."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vidgen_jax

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / "launch" / "slurm.sbatch", ROOT / ".ci" / "run"]
CONSTRAINTS = ("constraints-py311.txt", "constraints-py312.txt")
TOP_LEVEL = {
  ".ci",
  ".github",
  ".gitignore",
  ".pre-commit-config.yaml",
  "BUILD_NOTES.md",
  "CHANGELOG.md",
  "LICENSE",
  "README.md",
  "benchmarks",
  "docs",
  "experiments",
  "launch",
  "mkdocs.yml",
  "pyproject.toml",
  "tests",
  "vidgen_jax",
}
# Imported inside functions, if the user has installed the extra; see the errors of these modules.
OPTIONAL_EXTRAS = ("tensorboard", "plot", "gcs", "beam", "convert", "parity")
# Packages that an extra's requirements always install, and whose versions must match theirs.
PARTS_OF_OTHERS = {"aiohttp": "gcsfs", "fsspec": "gcsfs", "requests": "gcsfs", "google-auth": "gcsfs", "jaxlib": "jax"}


def pins(name: str) -> dict[str, str]:
  """Version by package, from a file of launch/."""
  lines = (ROOT / "launch" / name).read_text(encoding="utf-8").splitlines()
  found = {}
  for line in lines:
    if line and not line.startswith("#"):
      assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
      package, version = line.split("==")
      assert canonicalize_name(package) not in found, package
      found[canonicalize_name(package)] = version
  return found


def imported_packages(file: Path) -> Iterator[tuple[str, bool]]:
  """(module, whether it is imported on import of the file) of a source file's absolute imports."""
  tree = ast.parse(file.read_text(encoding="utf-8"))
  top_level = {id(node) for node in tree.body}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((alias.name, id(node) in top_level) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
      yield node.module, id(node) in top_level


def test_version_matches_the_metadata():
  assert vidgen_jax.__version__ == PROJECT["version"]


def test_python_and_console_script():
  assert PROJECT["requires-python"] == ">=3.11"
  assert PROJECT["scripts"] == {"vidgen": "vidgen_jax.cli:main"}


def test_extras():
  extras = PROJECT["optional-dependencies"]
  jax_extras = {"cuda13", "tpu", "k8s"}
  assert set(extras) == jax_extras | {*OPTIONAL_EXTRAS, "docs", "dev"}
  for extra in jax_extras:
    (requirement,) = map(Requirement, extras[extra])
    assert (requirement.name, requirement.extras) == ("jax", {extra})


def test_only_the_extra_convert_installs_tensorflow():
  with_tensorflow = {
    extra
    for extra, requirements in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items()
    if any(Requirement(text).name in ("tensorflow", "tensorflow-cpu") for text in requirements)
  }
  assert with_tensorflow == {"convert"}


def test_every_import_is_declared():
  extras = PROJECT["optional-dependencies"]
  required = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
  optional = {canonicalize_name(Requirement(text).name) for extra in OPTIONAL_EXTRAS for text in extras[extra]}
  distributions = importlib.metadata.packages_distributions()
  undeclared = set()
  for file in (ROOT / "vidgen_jax").rglob("*.py"):
    for module, on_import in imported_packages(file):
      top = module.split(".")[0]
      if top in sys.stdlib_module_names or top == "vidgen_jax":
        continue
      packages = {canonicalize_name(name) for name in distributions.get(top, [top])}
      if module.startswith("google.auth"):
        packages = {"google-auth"}
      elif top == "tensorflow":
        packages = {"tensorflow-cpu"}
      packages |= {PARTS_OF_OTHERS[name] for name in packages & PARTS_OF_OTHERS.keys()}
      if not packages & (required if on_import else required | optional):
        undeclared.add(f"{file.relative_to(ROOT)}: {module}")
  assert undeclared == set()


def test_every_dependency_is_imported():
  imported = {module.split(".")[0] for f in (ROOT / "vidgen_jax").rglob("*.py") for module, _ in imported_packages(f)}
  distributions = importlib.metadata.packages_distributions()
  used = {canonicalize_name(name) for module in imported for name in distributions.get(module, [module])}
  # jax.export serialises with flatbuffers, and TFDS reads its files with array-record.
  used |= {"flatbuffers", "array-record"}
  assert {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]} <= used


@pytest.mark.parametrize("constraints", CONSTRAINTS)
@pytest.mark.parametrize("extra", [None, "dev", "tensorboard", "plot", "gcs", "beam", "docs", "convert", "parity"])
def test_every_dependency_is_pinned_within_its_bounds(extra, constraints):
  pinned = pins(constraints)
  for text in PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]:
    requirement = Requirement(text)
    version = pinned.get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in launch/{constraints}"
    assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


def test_jax_versions_by_python():
  versions = {name: pins(name)["jax"].split(".")[:2] for name in CONSTRAINTS}
  assert versions == {"constraints-py311.txt": ["0", "10"], "constraints-py312.txt": ["0", "12"]}


def test_license_is_the_whole_apache_2():
  text = (ROOT / "LICENSE").read_text(encoding="utf-8")
  assert "Version 2.0, January 2004" in text
  assert "END OF TERMS AND CONDITIONS" in text
  assert PROJECT["license"] == "Apache-2.0"


def test_package_is_marked_as_typed():
  assert (ROOT / "vidgen_jax" / "py.typed").is_file()


def test_top_level_has_no_other_files():
  result = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
  if result.returncode:
    pytest.skip("not a git checkout")
  assert {line.split("/")[0] for line in result.stdout.splitlines()} - TOP_LEVEL == set()


def test_scripts_exist():
  assert {"setup.sh", "test.sh", "demo.sh", "local.sh", "tpu_pod.sh"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_stop_at_errors_and_are_executable(script):
  text = script.read_text(encoding="utf-8")
  assert text.startswith("#!/usr/bin/env bash\n")
  assert re.search(r"^set -euo pipefail$", text, re.MULTILINE)
  assert os.access(script, os.X_OK)
  subprocess.run(["bash", "-n", script], check=True)


def test_ci_runs_all_tests_with_the_test_script():
  text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
  assert "exec bash launch/test.sh" in text.splitlines()
  assert "VIDGEN_SLOW=1" in text


def test_workflow_covers_the_supported_versions_with_the_scripts():
  workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
  (job,) = workflow["jobs"].values()
  classifiers = [
    c.split(" :: ")[-1] for c in PROJECT["classifiers"] if c.startswith("Programming Language") and "." in c
  ]
  assert job["strategy"]["matrix"]["python"] == classifiers
  commands = "\n".join(step.get("run", "") for step in job["steps"])
  for command in ("launch/setup.sh", "ruff check", "ty check", "launch/test.sh --slow", "mkdocs build --strict"):
    assert command in commands


def test_scripts_and_pins_name_no_package_index():
  for path in (*SCRIPTS, *(ROOT / "launch" / name for name in CONSTRAINTS), ROOT / "pyproject.toml"):
    assert not re.search(r"index-url|find-links|trusted-host", path.read_text(encoding="utf-8")), path


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory) -> Path:
  """Python of a new environment with the wheel, which finds the dependencies in the current environment."""
  pytest.importorskip("hatchling")
  folder = tmp_path_factory.mktemp("wheel")
  pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
  subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", ROOT], check=True)
  (wheel,) = folder.glob("vidgen_jax-*.whl")
  venv.create(folder / "venv", with_pip=False)
  (site_packages,) = (folder / "venv").glob("lib/python*/site-packages")
  subprocess.run([*pip, "install", "--no-deps", f"--target={site_packages}", wheel], check=True)
  dependencies = next(path for path in sys.path if path.endswith("site-packages"))
  # A plain path: `site.addsitedir` would also read the .pth file of the editable install, which adds the checkout.
  (site_packages / "dependencies.pth").write_text(dependencies)
  return folder / "venv" / "bin" / "python"


def _run(python: Path, *words: str, folder: Path) -> subprocess.CompletedProcess:
  environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
  return subprocess.run(
    [python, "-P", "-m", "vidgen_jax", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
  )


@pytest.mark.slow
def test_wheel_trains_a_packaged_experiment_from_an_empty_folder(installed_wheel, tmp_path):
  data = _run(installed_wheel, "data", "build", "shape_motion", "--num_clips=40", "--data_dir=data", folder=tmp_path)
  assert data.returncode == 0, data.stderr
  config = ["--config=trivd_shape_motion.py:smoke", "--config.data.data_dir=data", "--config.train.num_steps=2"]
  result = _run(installed_wheel, "train", *config, "--workdir=run", folder=tmp_path)
  assert result.returncode == 0, result.stderr
  assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_wheel_lists_its_experiments_and_is_not_the_checkout(installed_wheel, tmp_path):
  result = _run(installed_wheel, "train", "--config=no_such.py:smoke", "--workdir=run", folder=tmp_path)
  assert result.returncode == 2
  assert "there is no file 'no_such.py'" in result.stderr
  assert "trivd_shape_motion" in result.stderr
  code = "import vidgen_jax; print(vidgen_jax.__file__)"
  found = subprocess.run([installed_wheel, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
  assert Path(found.stdout.strip()).is_relative_to(installed_wheel.parents[1])
