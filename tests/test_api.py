"""Rules for the public API: docstrings, types, the name `key`, optional parameters by keyword only.

Public is what a module defines itself and names without an underscore. Linen modules follow the conventions of their
base class: `__call__` takes its inputs and flags by position, so only its docstring and types are checked.
"""

import dataclasses
import enum
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType

import flax.linen as nn
import pytest

import vidgen_jax

# The entry point of the console script; tests pass the words by position.
POSITIONAL_OPTIONS = {"vidgen_jax.cli.main"}
# Bases that prescribe signatures: TFDS builders, Grain's transforms, and others that a library calls.
FOREIGN_BASES = ("tensorflow_datasets", "grain", "logging", "tqdm")


@pytest.fixture(scope="module")
def modules() -> list[ModuleType]:
  names = [m.name for m in pkgutil.walk_packages(vidgen_jax.__path__, "vidgen_jax.")]
  return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def public_objects(module: ModuleType) -> Iterator[tuple[str, object]]:
  for name, value in vars(module).items():
    if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
      continue
    if inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value) if callable(value) else value):
      yield f"{module.__name__}.{name}", value


def is_foreign(cls: type) -> bool:
  return any(base.__module__.split(".")[0] in FOREIGN_BASES for base in cls.__mro__)


def own_methods(cls: type) -> Iterator[tuple[str, Callable]]:
  """The public methods and properties that a class defines itself, generated ones left out."""
  for name, member in vars(cls).items():
    function = getattr(member, "fget", getattr(member, "func", getattr(member, "__func__", member)))
    function = inspect.unwrap(function) if callable(function) else function
    if (name.startswith("_") and name != "__call__") or (name == "setup" and issubclass(cls, nn.Module)):
      continue
    if not inspect.isfunction(function) or not function.__qualname__.startswith(f"{cls.__name__}."):
      continue
    if "<string>" not in function.__code__.co_filename:
      yield name, function


def public_functions(module: ModuleType) -> Iterator[tuple[str, Callable]]:
  for name, value in public_objects(module):
    if not inspect.isclass(value):
      yield name, inspect.unwrap(value)
    elif not is_foreign(value):
      yield from ((f"{name}.{method_name}", method) for method_name, method in own_methods(value))


def protocols(modules: Iterable[ModuleType]) -> list[type]:
  return [
    value
    for module in modules
    for _, value in public_objects(module)
    if inspect.isclass(value) and getattr(value, "_is_protocol", False)
  ]


def inherits_contract(cls: type, method_name: str, known_protocols: list[type]) -> bool:
  """Whether a base class, or a protocol that the class implements, documents the method."""
  bases = [base for base in cls.__mro__[1:] if base.__module__.startswith(vidgen_jax.__name__)]
  bases += [
    protocol
    for protocol in known_protocols
    if protocol is not cls and all(hasattr(cls, name) for name, _ in own_methods(protocol))
  ]
  return any(method_name in vars(base) for base in bases)


def parameters(function: Callable) -> list[inspect.Parameter]:
  return [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]


def missing_docstrings(module: ModuleType, known_protocols: list[type]) -> list[str]:
  found = [] if module.__doc__ else [module.__name__]
  for name, value in public_objects(module):
    # A dataclass without a docstring gets its signature for one.
    generated = inspect.isclass(value) and (value.__doc__ or "").startswith(f"{value.__name__}(")
    if generated or not value.__doc__:
      found.append(name)
    if inspect.isclass(value) and not is_foreign(value):
      found += [
        f"{name}.{method_name}"
        for method_name, method in own_methods(value)
        if not method.__doc__ and not inherits_contract(value, method_name, known_protocols)
      ]
  return found


def missing_annotations(module: ModuleType) -> list[str]:
  return [
    f"{name}: {missing}"
    for name, function in public_functions(module)
    for missing in [
      *(p.name for p in parameters(function) if p.annotation is inspect.Parameter.empty),
      *(["return"] if inspect.signature(function).return_annotation is inspect.Signature.empty else []),
    ]
  ]


def parameters_named(module: ModuleType, names: set[str]) -> list[str]:
  return [f"{n}: {p.name}" for n, f in public_functions(module) for p in parameters(f) if p.name in names]


def positional_options(module: ModuleType) -> list[str]:
  """Optional parameters that can be passed by position, which prevents later changes of the signature."""
  return [
    f"{name}: {p.name}"
    for name, function in public_functions(module)
    if name not in POSITIONAL_OPTIONS and not name.endswith(".__call__")
    for p in parameters(function)
    if p.default is not inspect.Parameter.empty and p.kind is not inspect.Parameter.KEYWORD_ONLY
  ]


def positional_dataclass_options(module: ModuleType) -> list[str]:
  """Dataclasses with defaults that can be passed by position; linen modules and flax structs are exempt."""
  return [
    name
    for name, value in public_objects(module)
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


def test_public_objects_have_a_docstring(modules):
  known = protocols(modules)
  assert [name for module in modules for name in missing_docstrings(module, known)] == []


def test_public_functions_are_annotated(modules):
  assert [name for module in modules for name in missing_annotations(module)] == []


def test_random_keys_are_named_key(modules):
  names = {"rng", "rngs", "prng", "prng_key", "rng_key"}
  assert [name for module in modules for name in parameters_named(module, names)] == []


def test_options_are_keyword_only(modules):
  assert [
    name for module in modules for name in positional_options(module) + positional_dataclass_options(module)
  ] == []


def test_the_rules_detect_violations(tmp_path, monkeypatch):
  (tmp_path / "api_probe.py").write_text(
    "import dataclasses\n"
    "from typing import Protocol\n"
    "def bare(x): pass\n"
    "def good(x: int, *, y: int = 1) -> int:\n  '''Doc.'''\n  return x\n"
    "def random(rng: int, scale: float = 1.0) -> None:\n  '''Doc.'''\n"
    "def _private(x, y=1): pass\n"
    "@dataclasses.dataclass\nclass Plain:\n  a: int = 1\n"
    "@dataclasses.dataclass(kw_only=True)\nclass Keywords:\n  '''Doc.'''\n  a: int = 1\n"
    "  @property\n  def double(self): return 2 * self.a\n"
    "class Shape(Protocol):\n  '''Doc.'''\n  def area(self) -> float: '''Doc.'''\n"
    "class Square:\n  '''Doc.'''\n  def area(self) -> float: return 1.0\n  def side(self) -> float: return 1.0\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  probe = importlib.import_module("api_probe")
  assert missing_docstrings(probe, protocols([probe])) == [
    "api_probe",
    "api_probe.bare",
    "api_probe.Plain",
    "api_probe.Keywords.double",
    "api_probe.Square.side",
  ]
  assert missing_annotations(probe) == [
    "api_probe.bare: x",
    "api_probe.bare: return",
    "api_probe.Keywords.double: return",
  ]
  assert parameters_named(probe, {"rng"}) == ["api_probe.random: rng"]
  assert positional_options(probe) == ["api_probe.random: scale"]
  assert positional_dataclass_options(probe) == ["api_probe.Plain"]
