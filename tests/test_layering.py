"""Imports point from higher to lower layers. Read with `ast`, so imports inside functions count as well."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from vidgen_jax.cli import COMMANDS

PACKAGE = "vidgen_jax"
ROOT = Path(__file__).resolve().parents[1]

# The folders and top-level modules of the package, lowest layer first. Each may import from itself and from the rows
# above its own in this list. New ones must be added here.
ROWS = (
  "__init__ errors types",
  "buckets",
  "files",
  "ops nn core parallel",
  "media",
  "data",
  "gans scores",
  "runs",
  "bench",
  "commands",
  "cli",
  "__main__",
)
LAYERS = {part: number for number, row in enumerate(ROWS) for part in row.split()}
# Allowed imports (importer, imported) in the same row: layers consist of pure functions.
EQUALS = {("nn", "ops"), ("core", "ops"), ("core", "nn")}

# Parts that may import a library, by the library's dotted prefix.
CONFINED = {
  "orbax": {"runs"},
  "tensorboard": {"runs"},
  "tensorflow": {"data", "scores"},
  "fsspec": {"buckets"},
  "gcsfs": {"buckets"},
  "pickle": {"runs", "scores"},
  "cloudpickle": set(),
  "torch": {"scores"},
}


class Import(NamedTuple):
  """`module` imports `target`, both dotted, at `line`."""

  module: str
  target: str
  line: int


def part_of(module: str) -> str:
  """The entry of LAYERS of a dotted module: 'vidgen_jax.nn.norm' -> 'nn', 'vidgen_jax' -> '__init__'."""
  return module.split(".")[1] if "." in module else "__init__"


def imports_of(source: str, module: str, *, is_package: bool, modules: set[str]) -> Iterator[Import]:
  """All imports of a source text; `from package import name` is an import of package.name if that is a module."""
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
  """Imports from the same or a higher layer."""
  found = []
  for module, target, line in all_imports(root):
    if target.split(".")[0] != PACKAGE:
      continue
    importer, imported = part_of(module), part_of(target)
    if importer not in LAYERS or imported not in LAYERS:
      found.append(f"{module}:{line} imports {target}, but one of them is not in ROWS")
      continue
    if importer == imported or LAYERS[imported] < LAYERS[importer] or (importer, imported) in EQUALS:
      continue
    found.append(f"{module}:{line} ({LAYERS[importer]}) imports {target} ({LAYERS[imported]})")
  return found


def confinement_violations(root: Path) -> list[str]:
  """Imports of a confined library in other parts than the allowed ones."""
  return [
    f"{module}:{line} imports {target}"
    for module, target, line in all_imports(root)
    for library, allowed in CONFINED.items()
    if f"{target}.".startswith(f"{library}.") and part_of(module) not in allowed
  ]


def tensorflow_at_import(root: Path) -> list[str]:
  """Modules that load TensorFlow when they are imported; only functions may import it."""
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
      heavy = ("tensorflow", "tensorboard", "clu.metric_writers", "clu.periodic_actions")
      if id(node) not in inside and any(f"{name}.".startswith(f"{h}.") for name in names for h in heavy):
        found.append(f"{module}:{node.lineno} imports {names}")
  return found


def calls_of(root: Path, name: str) -> list[str]:
  """Calls of a builtin function."""
  return [
    f"{module}:{node.lineno} calls {name}"
    for module, path in sources(root).items()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
  ]


def test_every_module_has_a_layer():
  assert {part_of(module) for module in sources(ROOT)} - set(LAYERS) == set()


def test_imports_point_to_lower_layers():
  assert layer_violations(ROOT) == []


def test_no_module_imports_a_command():
  commands = {command.module for command in COMMANDS.values()}
  assert commands <= set(sources(ROOT))
  assert [found for found in all_imports(ROOT) if found.target in commands] == []


def test_confined_libraries():
  assert confinement_violations(ROOT) == []


def test_no_module_loads_tensorflow_on_import():
  assert tensorflow_at_import(ROOT) == []


@pytest.mark.parametrize("name", ["print", "breakpoint", "eval", "exec"])
def test_forbidden_builtins(name):
  assert calls_of(ROOT, name) == []


def _package(tmp_path: Path, files: dict[str, str]) -> Path:
  for name, text in files.items():
    path = tmp_path / PACKAGE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return tmp_path


def test_the_check_detects_upward_sideways_relative_and_lazy_imports(tmp_path):
  root = _package(
    tmp_path,
    {
      "__init__.py": "",
      "ops/__init__.py": "from vidgen_jax.commands import train\n",  # up, in the __init__ of a folder
      "ops/a.py": "import vidgen_jax.nn.norm\n",  # sideways, in the direction that is not allowed
      "new.py": "import vidgen_jax.ops.a\n",  # a part without a layer
      "ops/b.py": "from .a import x\nfrom .. import errors\n",  # within the folder, and down
      "nn/__init__.py": "",
      "nn/norm.py": "from vidgen_jax.ops import a\n",  # allowed
      "nn/deep/c.py": "def f():\n  from ...core.state import S\n",  # sideways, lazy and relative
      "core/state.py": "",
      "errors.py": "",
      "commands/train.py": "from vidgen_jax.ops.a import x\n",
    },
  )
  assert layer_violations(root) == [
    "vidgen_jax.new:1 imports vidgen_jax.ops.a, but one of them is not in ROWS",
    "vidgen_jax.nn.deep.c:2 (3) imports vidgen_jax.core.state (3)",
    "vidgen_jax.ops:1 (3) imports vidgen_jax.commands.train (9)",
    "vidgen_jax.ops.a:1 (3) imports vidgen_jax.nn.norm (3)",
  ]


def test_the_check_detects_confined_libraries(tmp_path):
  root = _package(
    tmp_path,
    {
      "runs/checkpoint.py": "import orbax.checkpoint as ocp\n",
      "core/state.py": "from orbax import checkpoint\n",
      "runs/writers.py": "def f():\n  from tensorboard.summary import writer\n",
      "runs/eager.py": "from clu import metric_writers\n",
      "data/a.py": "from tensorboard import summary\nimport tensorflow_datasets\n",
    },
  )
  assert confinement_violations(root) == [
    "vidgen_jax.core.state:1 imports orbax.checkpoint",
    "vidgen_jax.data.a:1 imports tensorboard.summary",
  ]
  assert [line.split(" ")[0] for line in tensorflow_at_import(root)] == [
    "vidgen_jax.data.a:1",
    "vidgen_jax.runs.eager:1",
  ]
