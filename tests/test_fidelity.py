"""The tables of papers agree with the resolved configs and the code, and the generated pages are up to date."""

import ast
import functools
import importlib
import importlib.util
import runpy
from pathlib import Path

import pytest
from absl import flags

from vidgen_jax.cli import COMMANDS, dispatch
from vidgen_jax.runs.config import from_config_dict
from vidgen_jax.runs.fidelity import DECLARED, PAPERS, STATUSES, Item, field_values, read_items

ROOT = Path(__file__).resolve().parents[1]
ITEMS = [pytest.param(item, id=f"{gan}-{item.name}") for gan in PAPERS for item in read_items(gan)]
VAGUE = ("unknown", "todo", "tbd", "?")


@functools.cache
def resolved(variant: str) -> dict:
  """Field values of FILE.py:VARIANT."""
  file, name = variant.split(":")
  config = runpy.run_path(str(ROOT / "experiments" / file))["get_config"](name)
  return field_values(from_config_dict(config))


@functools.cache
def defined_names(path: Path) -> frozenset[str]:
  """Names that a module defines: functions, classes, their methods and variables."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      names.add(node.name)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
      names.add(node.id)
  return frozenset(names)


@pytest.mark.parametrize("item", ITEMS)
def test_item_is_complete_and_has_evidence(item: Item):
  assert item.status in STATUSES
  assert item.part and item.source and item.paper
  assert not any(word == text.strip().lower() for word in VAGUE for text in (item.paper, item.here))
  assert item.here or item.status not in DECLARED, "says what is done and why"
  assert item.status == "absent" or item.fields or item.code or item.test or item.command


@pytest.mark.parametrize("item", [param for param in ITEMS if param.values[0].fields])
def test_fields_have_these_values_in_the_paper_variants(item: Item):
  for variant in item.configs:
    values = resolved(variant)
    assert {name: values.get(name) for name in item.fields} == dict(item.fields), variant


@pytest.mark.parametrize("item", [param for param in ITEMS if param.values[0].code or param.values[0].test])
def test_code_and_tests_exist(item: Item):
  for path, separator, top in ((item.code, ":", "vidgen_jax"), (item.test, "::", ".")):
    if path:
      file, name = path.split(separator)
      assert name in defined_names(ROOT / top / file), path


@pytest.mark.parametrize("item", [param for param in ITEMS if param.values[0].command])
def test_commands_and_their_flags_exist(item: Item):
  program, name, *words = item.command.split()
  assert program == "vidgen"
  flag_values = flags.FlagValues()
  importlib.import_module(COMMANDS[name].module).define_flags(flag_values)
  given = {word.removeprefix("--").split("=")[0] for word in words if word.startswith("--")}
  assert {flag for flag in given if not flag.startswith("config.")} <= set(flag_values)


@pytest.mark.parametrize("gan", PAPERS)
def test_names_are_unique(gan: str):
  names = [(item.part, item.name) for item in read_items(gan)]
  assert len(names) == len(set(names))


def test_generated_pages_are_up_to_date():
  spec = importlib.util.spec_from_file_location("write_fidelity", ROOT / "docs" / "write_fidelity.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  for path, text in module.pages().items():
    assert path.read_text(encoding="utf-8") == text, f"run python docs/write_fidelity.py: {path.name} is outdated"


@pytest.mark.parametrize("gan", PAPERS)
def test_listing(gan: str, capsys):
  assert dispatch(["fidelity", gan]) == 0
  output = capsys.readouterr().out
  assert all(f"{item.name} ({item.source})" in output for item in read_items(gan))


def test_overview(capsys):
  assert dispatch(["fidelity"]) == 0
  lines = capsys.readouterr().out.splitlines()
  for line, (gan, title) in zip(lines, PAPERS.items(), strict=True):
    assert line.split()[:2] == [gan, title] and f"{len(read_items(gan))} items" in line


@pytest.mark.parametrize(
  ("words", "line"),
  [
    (
      ["--config=trivd_kinetics600.py:paper", "--config.algorithm.orthogonal_penalty=0.5"],
      "algorithm.orthogonal_penalty=0.5, in trivd_kinetics600.py:paper 0.0001",
    ),
    # The value of another data set's variant is a difference as well.
    (
      ["--config=trivd_bair.py:paper", "--config.algorithm.conditioning_frames=5", "--against=trivd_bair.py:paper"],
      "algorithm.conditioning_frames=5, in trivd_bair.py:paper 1",
    ),
  ],
)
def test_differences_from_a_published_experiment(words, line, capsys):
  assert dispatch(["fidelity", *words]) == 0
  first, last = capsys.readouterr().out.splitlines()
  assert first.startswith(line)
  assert last.startswith("1 of the fields")


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["nosuch"], "there is no paper of 'nosuch'"),
    (["trivd", "--status=nosuch"], "--status=nosuch must be among"),
    (["--status=absent"], "--status needs a GAN"),
    (["trivd", "mvt"], "takes one GAN"),
    (["--against=trivd_bair.py:paper"], "--against needs --config"),
    (["--config=mvt_ucf101.py:mvt", "--against=trivd_bair.py:paper"], "is of trivd, --config of mvt"),
  ],
)
def test_wrong_words(words, message, capsys):
  assert dispatch(["fidelity", *words]) == 2
  assert message in capsys.readouterr().err
