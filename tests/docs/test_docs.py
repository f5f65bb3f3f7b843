"""README and docs/ agree with the code: the site builds, commands and flags exist, fields are described."""

import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from vidgen_jax import cli
from vidgen_jax.commands.flag_parsing import parse_flags
from vidgen_jax.gans import GANS
from vidgen_jax.media.videos import save_mp4
from vidgen_jax.runs.config import template

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```bash\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
MAX_README_WORDS = 900


@pytest.fixture(scope="module")
def hooks():
  """The module docs/hooks.py."""
  for package in ("mkdocs", "griffe"):
    pytest.importorskip(package, reason="the extra docs is not installed")
  spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


def shell_commands(text: str) -> Iterator[list[str]]:
  """The words of every `vidgen` command in the bash blocks of a page; launchers count by the command they run."""
  for block in FENCE.findall(text):
    for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
      words = shlex.split(line, comments=True)
      if not words:
        continue
      program = words[0].rsplit("/", 1)[-1]
      if program == "vidgen":
        yield words[1:]
      elif program in ("tpu_pod.sh", "local.sh") and "train" in words:
        yield words[words.index("train") :]


def inline_commands(text: str) -> Iterator[list[str]]:
  """The words of every `vidgen` command in running text."""
  for code in INLINE.findall(FENCE.sub("", text)):
    words = code.split()
    if words[0] == "vidgen" and len(words) > 1 and words[1] in cli.COMMANDS:
      yield words[1:]


def flags_of(command: str) -> flags.FlagValues:
  flag_values = flags.FlagValues()
  flag_values.set_gnu_getopt(True)
  flags.DEFINE_bool("verbose", False, "", flag_values=flag_values)
  importlib.import_module(cli.COMMANDS[command].module).define_flags(flag_values)
  return flag_values


def config_fields() -> set[str]:
  def names(config, prefix: str) -> Iterator[str]:
    for name, value in config.items():
      yield f"{prefix}{name}"
      if hasattr(value, "items"):
        yield from names(value, f"{prefix}{name}.")

  return {field for gan in GANS for field in names(template(gan), "")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_code_blocks_parse(page, monkeypatch):
  monkeypatch.chdir(ROOT)
  for command, *words in shell_commands(page.read_text(encoding="utf-8")):
    assert command in cli.COMMANDS, command
    parse_flags(words, flags_of(command), command=command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_benchmark_scripts_in_code_blocks_parse(page, monkeypatch):
  monkeypatch.chdir(ROOT)
  for block in FENCE.findall(page.read_text(encoding="utf-8")):
    for script, line in re.findall(r"python benchmarks/(\w+)\.py (.*)", block):
      flag_values = flags.FlagValues()
      flags.DEFINE_string("out", None, "", flag_values=flag_values)
      importlib.import_module(f"benchmarks.{script}")._define_flags(flag_values)
      parse_flags(shlex.split(line), flag_values, command=script)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_name_existing_flags(page):
  for command, *words in inline_commands(page.read_text(encoding="utf-8")):
    for word in words:
      if word.startswith("--") and not word.startswith("--config."):
        name = word.lstrip("-").split("=")[0]
        known = {*flags_of(command), "help"}
        assert name in known or name.removeprefix("no") in known, f"vidgen {command} {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_config_fields_in_the_text_exist(page):
  fields = config_fields()
  parts = "|".join(sorted({field.split(".")[0] for field in fields if "." in field}))
  for code in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
    match = re.fullmatch(rf"(?:--)?(?:config\.)?((?:{parts})\.(\w+)(?:\.\w+)*)(?:=.*)?", code)
    # `data.pipeline` is a module.
    if match and match.group(2) != "py" and not (ROOT / "vidgen_jax" / "data" / f"{match.group(2)}.py").exists():
      assert match.group(1) in fields, code


@pytest.mark.parametrize("page", [*PAGES, ROOT / "BUILD_NOTES.md"], ids=lambda page: page.name)
def test_files_in_the_text_exist(page):
  """Files of the repository are named from its top, from the package or from experiments/."""
  roots = (ROOT, ROOT / "vidgen_jax", ROOT / "experiments")
  for code in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
    for path in re.findall(r"(?<![\w/.-])(?:[a-z0-9_]+/)*[a-z0-9_]+\.(?:py|sh|sbatch|yaml)\b", code):
      found = any((root / path).exists() for root in roots)
      assert found or path in ("config.py", "algorithm.py", "presets.py"), path


@pytest.mark.parametrize("page", ["extending.md", "training.md"])
def test_python_examples_run(page):
  """Examples that begin with their imports; in a process of their own, because they register units and data sets."""
  text = (ROOT / "docs" / page).read_text(encoding="utf-8")
  examples = re.findall(r"^```python\n((?:import|from) .*?)^```", text, re.MULTILINE | re.DOTALL)
  assert examples
  result = subprocess.run(
    [sys.executable, "-c", "\n".join(examples)],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr


def test_five_commands_print_a_table(tmp_path, monkeypatch, capsys):
  """The first block of evaluate_any.md, except for pip, on videos of moving squares."""
  for name, speed in {"real": 1, "model": 3}.items():
    (tmp_path / "videos" / name).mkdir(parents=True)
    for index in range(4):
      video = np.full((16, 32, 32, 3), 40 + 30 * index, np.uint8)
      for time, frame in enumerate(video):
        left = speed * time % 24
        frame[4 * index : 4 * index + 8, left : left + 8] = 220
      save_mp4(tmp_path / "videos" / name / f"{index}.mp4", video)
  monkeypatch.chdir(tmp_path)
  block = FENCE.search((ROOT / "docs" / "evaluate_any.md").read_text(encoding="utf-8"))
  assert block is not None
  commands = list(shell_commands(block[0]))
  assert [command for command, *_ in commands] == ["compare", "features", "compare", "compare"]
  outputs = []
  for words in commands:
    assert cli.dispatch(words) == 0
    outputs.append(capsys.readouterr().out)
  table, _, by_statistics, repeated = outputs
  first = (tmp_path / "scores.jsonl").read_text().splitlines()[0]
  assert "real, other half" in table
  (value,), (by_file,) = (re.findall(r"model +video_statistics_distance +(\S+)", x) for x in (table, by_statistics))
  assert value == by_file
  assert repeated.startswith(json.loads(first)["metric"])
  assert "equal to rounding" in repeated


def test_every_command_is_documented():
  text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
  assert {words[0] for words in shell_commands(text)} | {words[0] for words in inline_commands(text)} >= set(
    cli.COMMANDS
  )


def test_every_experiment_and_launcher_is_documented():
  text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
  names = {path.name for path in (ROOT / "experiments").glob("*.py")} - {"__init__.py"}
  # The pinned versions are part of setup.sh, tpu_worker.sh of tpu_pod.sh.
  scripts = {f"launch/{path.name}" for path in (ROOT / "launch").iterdir() if path.suffix != ".txt"}
  names |= scripts - {"launch/tpu_worker.sh"}
  assert [name for name in sorted(names) if name not in text] == []


def test_readme_is_short():
  assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= MAX_README_WORDS


def test_links_of_the_readme_resolve():
  text = (ROOT / "README.md").read_text(encoding="utf-8")
  targets = re.findall(r"\]\(([^)]+)\)", text)
  assert "docs/images/shape_motion_cpu.gif" in targets
  missing = [t for t in targets if not t.startswith("https://") and not (ROOT / t.split("#")[0]).exists()]
  assert missing == []


def test_every_config_field_is_described(hooks):
  fields = [field for _, prefix, cls in hooks.config_classes() for field in hooks.config_fields(cls, prefix)]
  assert [field.name for field in fields if not field.meaning] == []
  by_name = {field.name: field for field in fields}
  assert by_name["train.batch_size"].type == "int"
  assert by_name["train.batch_size"].default == "512"
  assert by_name["data.eval_window"].type == "'centre' | 'start' | 'random' | 'all'"
  described = {name for name in by_name if "." in name}
  assert {name for name in config_fields() if name.count(".") == 1} <= described


def test_the_site_builds_without_warnings(hooks, tmp_path):
  pytest.importorskip("material", reason="the extra docs is not installed")
  pytest.importorskip("mkdocstrings_handlers.python", reason="the extra docs is not installed")
  environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
  result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stdout + result.stderr
  configuration = (tmp_path / "site" / "reference" / "configuration.html").read_text(encoding="utf-8")
  assert "train.checkpoints_to_keep" in configuration
  assert (tmp_path / "site" / "reference" / "api" / "core.html").is_file()
