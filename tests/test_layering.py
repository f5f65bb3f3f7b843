"""Imports point one way. The modules are read with `ast`, so that a lazy import inside a function counts as well."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "vidgen_jax"
ROOT = Path(__file__).resolve().parents[1]

# A module may import smaller numbers, and its own package. A new module needs a line here. Layer 4 is the wiring, which
# has an order of its own, written behind the point.
LAYERS = {
  "__init__": 0,
  "crc32c": 0,
  "errors": 0,
  "loops": 0,
  "types": 0,
  "ops": 1,
  "nn": 1,
  "core": 1,
  "parallel": 1,
  "models": 2,
  "data": 2,
  "algorithms": 3,
  "metrics": 3,
  "checkpoint": 3,
  "observe": 3,
  "pretrained": 3,
  "config": 4,
  "flag_parsing": 4,
  "presets": 4,
  "experiment": 4.1,
  "scoring": 4.2,
  "workdir": 4.2,
  "hooks": 4.3,
  "training_loop": 4.4,
  "exported": 1,
  "files": 1,
  "clips": 4.2,
  "clip_folders": 4.2,
  "classifier_training": 4.2,
  "extraction": 4.2,
  "set_metrics": 4.3,
  "feature_collector": 4.4,
  "metric_flags": 4.4,
  "follow": 4.4,
  "samplers": 4.4,
  "motion": 4.4,
  "run_scores": 4.5,
  "sample_pictures": 4.5,
  "stochasticity": 4.5,
  "truncation_sweep": 4.6,
  "extraction_timing": 4.5,
  "compilation": 4.2,
  "flops": 1,
  "step_timing": 4.5,
  "device_peaks": 1,
  "measurements": 4,
  "step_flops": 4.2,
  "cost_estimate": 4.5,
  "paper_tables": 4,
  "bench_tables": 4.6,
  "train": 5,
  "evaluate": 5,
  "sample": 5,
  "figures": 5,
  "export": 5,
  "bench": 5,
  "prepare_data": 5,
  "classify": 5,
  "compare": 5,
  "features": 5,
  "import_weights": 5,
  "cli": 6,
  "__main__": 7,
}
# (importer, imported) of equal number: layers are made of pure functions.
EQUALS = {("nn", "ops")}

# A library that only these parts may import, by its first names.
CONFINED = {
  "orbax": {"checkpoint"},
  "clu.metric_writers": {"observe"},
  "clu.periodic_actions": {"observe"},
  "tensorflow": {"observe"},
  "pickle": set(),
  "cloudpickle": set(),
  "torch": set(),
}


class Import(NamedTuple):
  """`module` imports `target`, both dotted, at `line`."""

  module: str
  target: str
  line: int


def part_of(module: str) -> str:
  """The entry of LAYERS that a dotted module belongs to: 'vidgen_jax.nn.norm' -> 'nn', 'vidgen_jax' -> '__init__'."""
  return module.split(".")[1] if "." in module else "__init__"


def imports_of(source: str, module: str, *, is_package: bool, modules: set[str]) -> Iterator[Import]:
  """Every import of a source text; `from package import name` names the module where `name` is one."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (Import(module, alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
        base = ".".join([*parents, *filter(None, [node.module])])
      for alias in node.names:
        name = f"{base}.{alias.name}"
        is_module = name in modules or not base.startswith(PACKAGE)
        yield Import(module, name if is_module else base, node.lineno)


def sources(root: Path) -> dict[str, Path]:
  """The modules of the package below `root`, by dotted name."""
  found = {}
  for path in sorted((root / PACKAGE).rglob("*.py")):
    parts = path.relative_to(root).with_suffix("").parts
    found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
  return found


def all_imports(root: Path) -> list[Import]:
  modules = sources(root)
  return [
    found
    for module, path in modules.items()
    for found in imports_of(
      path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py", modules=set(modules)
    )
  ]


def layer_violations(root: Path) -> list[str]:
  """Imports that point up or sideways."""
  found = []
  for module, target, line in all_imports(root):
    if target.split(".")[0] != PACKAGE:
      continue
    importer, imported = part_of(module), part_of(target)
    if importer not in LAYERS or imported not in LAYERS:
      found.append(f"{module}:{line} imports {target}, and one of them has no number")
      continue
    if importer == imported or LAYERS[imported] < LAYERS[importer] or (importer, imported) in EQUALS:
      continue
    found.append(f"{module}:{line} ({LAYERS[importer]}) imports {target} ({LAYERS[imported]})")
  return found


def confinement_violations(root: Path) -> list[str]:
  """Imports of a confined library outside of the parts that may import it."""
  return [
    f"{module}:{line} imports {target}"
    for module, target, line in all_imports(root)
    for library, allowed in CONFINED.items()
    if f"{target}.".startswith(f"{library}.") and part_of(module) not in allowed
  ]


def tensorflow_at_import(root: Path) -> list[str]:
  """Modules that load TensorFlow as soon as they are imported; only the body of a function may."""
  found = []
  for module, path in sources(root).items():
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
      id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)
    }
    for node in ast.walk(tree):
      names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
      if isinstance(node, ast.ImportFrom) and not node.level:
        names = [f"{node.module}.{a.name}" for a in node.names]
      heavy = ("tensorflow", "clu.metric_writers", "clu.periodic_actions", "tensorboard")
      if id(node) not in inside and any(f"{name}.".startswith(f"{h}.") for name in names for h in heavy):
        found.append(f"{module}:{node.lineno} imports {names}")
  return found


def calls_of(root: Path, name: str) -> list[str]:
  """Calls of a builtin."""
  return [
    f"{module}:{node.lineno} calls {name}"
    for module, path in sources(root).items()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
  ]


def test_every_module_has_a_number():
  assert {part_of(module) for module in sources(ROOT)} - set(LAYERS) == set()


def test_imports_point_one_way():
  assert layer_violations(ROOT) == []


def test_confined_libraries_stay_where_they_belong():
  assert confinement_violations(ROOT) == []


def test_no_module_loads_tensorflow_when_imported():
  assert tensorflow_at_import(ROOT) == []


@pytest.mark.parametrize("name", ["print", "breakpoint", "eval", "exec"])
def test_builtins_that_are_not_called(name):
  assert calls_of(ROOT, name) == []


def _package(tmp_path: Path, files: dict[str, str]) -> Path:
  for name, text in files.items():
    path = tmp_path / PACKAGE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return tmp_path


def test_the_check_itself_sees_upward_sideways_relative_and_lazy_imports(tmp_path):
  root = _package(
    tmp_path,
    {
      "__init__.py": "",
      "ops/__init__.py": "from vidgen_jax import train\n",  # up, through the package
      "ops/a.py": "import vidgen_jax.nn.norm\n",  # sideways, in the direction that is not excepted
      "new.py": "import vidgen_jax.ops.a\n",  # a part without a number
      "ops/b.py": "from .a import x\nfrom .. import errors\n",  # within the package, and down: both fine
      "nn/__init__.py": "",
      "nn/norm.py": "from vidgen_jax.ops import a\n",  # the exception
      "nn/deep/c.py": "def f():\n  from ...core.state import S\n",  # sideways, lazy and relative
      "core/state.py": "",
      "errors.py": "",
      "train.py": "from vidgen_jax.ops.a import x\n",
    },
  )
  assert layer_violations(root) == [
    "vidgen_jax.new:1 imports vidgen_jax.ops.a, and one of them has no number",
    "vidgen_jax.nn.deep.c:2 (1) imports vidgen_jax.core.state (1)",
    "vidgen_jax.ops:1 (1) imports vidgen_jax.train (5)",
    "vidgen_jax.ops.a:1 (1) imports vidgen_jax.nn.norm (1)",
  ]


def test_the_check_itself_sees_confined_libraries(tmp_path):
  root = _package(
    tmp_path,
    {
      "checkpoint.py": "import orbax.checkpoint as ocp\n",
      "core/state.py": "from orbax import checkpoint\n",
      "observe/writers.py": "def f():\n  import tensorflow\n  from clu import metric_writers\n",
      "observe/eager.py": "from clu import metric_writers\n",
      "data/a.py": "from clu import metrics, metric_writers\nimport tensorflow_datasets\n",
    },
  )
  assert confinement_violations(root) == [
    "vidgen_jax.core.state:1 imports orbax.checkpoint",
    "vidgen_jax.data.a:1 imports clu.metric_writers",
  ]
  assert [line.split(" ")[0] for line in tensorflow_at_import(root)] == [
    "vidgen_jax.data.a:1",
    "vidgen_jax.observe.eager:1",
  ]
