"""Reflects over the public API: docstrings, types, the name `key`, optional parameters by keyword only.

Public is what a module defines itself and names without an underscore. Linen and Protocol classes follow their base's
conventions: a module's `__call__` takes its inputs and flags by position, so only its docstring and types are checked.
"""

import dataclasses
import enum
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator

import flax.linen as nn
import pytest

import vidgen_jax

# The entry point of the console script is called without arguments; tests hand it words by position.
POSITIONAL_OPTIONS = {"vidgen_jax.cli.main"}
# Signatures that another library prescribes: TFDS builders are made and asked by TFDS, Grain calls its transforms.
FOREIGN_BASES = ("tensorflow_datasets", "grain", "logging", "tqdm")

MODULES = sorted(
  m.name for m in pkgutil.walk_packages(vidgen_jax.__path__, "vidgen_jax.") if not m.name.endswith("__main__")
)


def public_objects(module_name: str) -> Iterator[tuple[str, object]]:
  module = importlib.import_module(module_name)
  for name, value in vars(module).items():
    if name.startswith("_") or getattr(value, "__module__", None) != module_name:
      continue
    if inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value) if callable(value) else value):
      yield f"{module_name}.{name}", value


def is_foreign(cls: type) -> bool:
  return any(base.__module__.split(".")[0] in FOREIGN_BASES for base in cls.__mro__)


def public_functions(module_name: str) -> Iterator[tuple[str, Callable]]:
  """Functions, and the methods that public classes define themselves."""
  for name, value in public_objects(module_name):
    if not inspect.isclass(value):
      yield name, inspect.unwrap(value)
      continue
    if is_foreign(value):
      continue
    for method_name, method in vars(value).items():
      method = getattr(method, "fget", getattr(method, "__func__", method))
      method = inspect.unwrap(method) if callable(method) else method
      written_here = inspect.isfunction(method) and method.__qualname__.startswith(f"{value.__name__}.")
      is_generated = "<string>" in method.__code__.co_filename if written_here else True
      if method_name == "setup" and issubclass(value, nn.Module):
        continue
      if not is_generated and (method_name == "__call__" or not method_name.startswith("_")):
        yield f"{name}.{method_name}", method


def parameters(function: Callable) -> list[inspect.Parameter]:
  return [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]


def missing_docstrings(module_name: str) -> list[str]:
  module = importlib.import_module(module_name)
  found = [] if module.__doc__ else [module_name]
  for name, value in public_objects(module_name):
    # A dataclass without a docstring gets its signature for one.
    generated = inspect.isclass(value) and (value.__doc__ or "").startswith(f"{value.__name__}(")
    if generated or not value.__doc__:
      found.append(name)
  for name, function in public_functions(module_name):
    if not function.__doc__ and not inspect.isclass(function):
      found.append(name)
  return list(dict.fromkeys(found))


def missing_annotations(module_name: str) -> list[str]:
  return [
    f"{name}: {missing}"
    for name, function in public_functions(module_name)
    for missing in [
      *(p.name for p in parameters(function) if p.annotation is inspect.Parameter.empty),
      *(["return"] if inspect.signature(function).return_annotation is inspect.Signature.empty else []),
    ]
  ]


def parameters_named(module_name: str, names: set[str]) -> list[str]:
  return [f"{n}: {p.name}" for n, f in public_functions(module_name) for p in parameters(f) if p.name in names]


def positional_options(module_name: str) -> list[str]:
  """Optional parameters that can be given by position, which a later signature could not change."""
  return [
    f"{name}: {p.name}"
    for name, function in public_functions(module_name)
    if name not in POSITIONAL_OPTIONS and not name.endswith(".__call__")
    for p in parameters(function)
    if p.default is not inspect.Parameter.empty and p.kind is not inspect.Parameter.KEYWORD_ONLY
  ]


def positional_dataclass_options(module_name: str) -> list[str]:
  """Dataclasses with defaults must be built by keyword; linen modules and struct pytrees are built by their library."""
  return [
    name
    for name, value in public_objects(module_name)
    if inspect.isclass(value)
    and dataclasses.is_dataclass(value)
    and not issubclass(value, nn.Module | enum.Enum)
    and not getattr(value, "_flax_dataclass", False)
    and any(
      f.init
      and not f.kw_only
      and (f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING)
      for f in dataclasses.fields(value)
    )
  ]


@pytest.mark.parametrize("module_name", MODULES)
def test_public_things_have_a_docstring(module_name):
  assert missing_docstrings(module_name) == []


@pytest.mark.parametrize("module_name", MODULES)
def test_public_functions_are_annotated(module_name):
  assert missing_annotations(module_name) == []


@pytest.mark.parametrize("module_name", MODULES)
def test_random_keys_are_named_key(module_name):
  assert parameters_named(module_name, {"rng", "rngs", "prng", "prng_key", "rng_key"}) == []


@pytest.mark.parametrize("module_name", MODULES)
def test_options_are_keyword_only(module_name):
  assert positional_options(module_name) + positional_dataclass_options(module_name) == []


def test_the_check_itself_sees_violations(tmp_path, monkeypatch):
  (tmp_path / "api_probe.py").write_text(
    "import dataclasses\n"
    "from pathlib import Path\n"
    "def bare(x): pass\n"
    "def good(x: int, *, y: int = 1) -> int:\n  '''Doc.'''\n  return x\n"
    "def random(rng: int, scale: float = 1.0) -> None:\n  '''Doc.'''\n"
    "def _private(x, y=1): pass\n"
    "@dataclasses.dataclass\nclass Plain:\n  a: int = 1\n"
    "@dataclasses.dataclass(kw_only=True)\nclass Keywords:\n  '''Doc.'''\n  a: int = 1\n"
    "  @property\n  def double(self): return 2 * self.a\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  assert missing_docstrings("api_probe") == [
    "api_probe",
    "api_probe.bare",
    "api_probe.Plain",
    "api_probe.Keywords.double",
  ]
  assert missing_annotations("api_probe") == [
    "api_probe.bare: x",
    "api_probe.bare: return",
    "api_probe.Keywords.double: return",
  ]
  assert parameters_named("api_probe", {"rng"}) == ["api_probe.random: rng"]
  assert positional_options("api_probe") == ["api_probe.random: scale"]
  assert positional_dataclass_options("api_probe") == ["api_probe.Plain"]
