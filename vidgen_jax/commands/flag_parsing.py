"""Parsing the flags of one command; a mistake in them becomes a `UserError` that names the flag or field."""

import difflib
import re
import runpy
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

import vidgen_jax
from vidgen_jax import buckets
from vidgen_jax.errors import UserError


class _ExperimentParser(flags.ArgumentParser):
  """Loads a config. ml_collections would run its file in the module of an earlier one, and report errors late."""

  def parse(self, argument: str) -> ConfigDict:
    return load_experiment(argument)

  def flag_type(self) -> str:
    return "config object"


def load_experiment(argument: str) -> ConfigDict:
  """The locked config of FILE.py:VARIANT, as in --config; UserError if the file is missing or broken."""
  name, *variant = argument.split(":", 1)
  file = find_experiment(name)
  try:
    get_config = runpy.run_path(file).get("get_config")
    config = get_config and get_config(*variant)
  except UserError:
    raise
  except Exception as error:
    raise UserError(f"{_position_in(file, error)}: {type(error).__name__}: {_text(error)}") from error
  if not isinstance(config, ConfigDict):
    raise UserError(f"{file} has no function get_config(variant) that returns a ConfigDict")
  return config.lock()


def define_config(flag_values: flags.FlagValues, *, help_text: str = "experiment to use") -> None:
  """Defines --config, a file with `get_config(variant)`, whose fields are overridden with --config.FIELD=VALUE."""
  help_text += ": FILE.py:VARIANT, a path or the name of a file in experiments/; override its fields with "
  help_text += "--config.FIELD=VALUE"
  config_flags.DEFINE_config_file("config", None, help_text, flag_values=flag_values)
  flag_values["config"].parser = _ExperimentParser()


def parse_flags(words: Sequence[str], flag_values: flags.FlagValues, *, command: str) -> list[str]:
  """Parses `words` into `flag_values`, overrides of config fields included; returns the positional arguments.

  All words after `--` are positional. `command` is the name of the command, for messages.

  Raises:
    UserError: for an unknown flag, an invalid value, a missing or broken config file, or an override of a field that
      the config does not have.
  """
  # ml_collections searches `sys.argv` for overrides, not the words that it parses.
  previous, sys.argv = sys.argv, ["vidgen", *words]
  try:
    return flag_values(sys.argv)[1:]
  except UserError:
    raise
  except flags.UnrecognizedFlagError as error:
    raise UserError(_unknown_flag(command, error.flagname, flag_values)) from None
  except flags.Error as error:
    raise UserError(_illegal_value(str(error), flag_values)) from None
  except Exception as error:
    matches = (re.match(r"--?((?:no)?config\.[^=]*)", word) for word in words)
    overrides = [match[1] for match in matches if match]
    if not overrides:
      raise
    raise UserError(_bad_override(error, overrides)) from None
  finally:
    sys.argv = previous


def find_experiment(name: str) -> str:
  """The config file of a path or a name: `NAME`, `NAME.py`, `experiments/NAME.py`; current folder first."""
  path = Path(name if name.endswith(".py") else f"{name}.py")
  for own in (path, Path("experiments") / path if path.parent == Path() else path):
    if own.is_file():
      return str(own)
  # Inside the installed package, or next to it in a checkout.
  package = Path(vidgen_jax.__file__).parent
  experiments = next(filter(Path.is_dir, (package / "experiments", package.parent / "experiments")), package)
  packaged = experiments / path.name
  if path.parent in (Path(), Path("experiments")) and packaged.is_file():
    return str(packaged)
  known = sorted({file.stem for folder in (Path("experiments"), experiments) for file in folder.glob("*.py")})
  hint = did_you_mean(path.stem, known) or ";"
  raise UserError(
    f"--config: there is no file {name!r}{hint} give FILE.py:VARIANT with the path of a file or one of "
    f"{', '.join(known)}"
  )


def _unknown_flag(command: str, flag_name: str, flag_values: flags.FlagValues) -> str:
  root = flag_name.split(".", 1)[0]
  if root != flag_name and root in flag_values:
    return f"--{flag_name}: give --{root}=FILE.py:VARIANT before its overrides"
  hint = did_you_mean(f"--{flag_name}", [f"--{name}" for name in flag_values])
  return f"unknown flag --{flag_name}{hint or ';'} `vidgen {command} --help` lists the flags"


def _illegal_value(message: str, flag_values: flags.FlagValues) -> str:
  match = re.match(r"flag --([^=]+)=(.*?): (.*)", message, re.DOTALL)
  if match is None:
    # ml_collections appends a paragraph on tuples to some of its messages.
    return message.split(" Currently supported types")[0]
  name, value, reason = match.groups()
  if "must have a value other than None" in reason:
    return f"--{name} is required"
  flag_type = flag_values[name].flag_type() if name in flag_values else "string"
  expected = "" if flag_type in ("string", "string enum") else f"expected a value of type {flag_type}: "
  return f"--{name}={value}: {expected}{reason}"


def _position_in(file: str, error: BaseException) -> str:
  """`FILE, line N` of the last traceback entry in a file."""
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
  if isinstance(error, SyntaxError) and error.filename == file:
    lines.append(error.lineno)
  return f"{file}, line {lines[-1]}" if lines else file


def _bad_override(error: Exception, overrides: Sequence[str]) -> str:
  text = _text(error)
  quoted = re.match(r"'([^']+)'", text)
  field = quoted.group(1) if quoted else ""
  override = next((o for o in overrides if field in o.split(".")[1:] or o.split(".", 1)[1] in text), None)
  if override is None or not isinstance(error, (AttributeError, KeyError)):
    return f"--{override or ', --'.join(overrides)}: {text}"
  suggestion = re.search(r'Did you mean "([^"]+)"', text)
  hint = f"; did you mean {suggestion.group(1)!r} instead of {field!r}?" if suggestion else ""
  return f"--{override}: the config has no such field{hint}"


def _text(error: BaseException) -> str:
  """The message itself: ml_collections wraps a KeyError in an AttributeError, and `str` of a KeyError is a `repr`."""
  while error.args and isinstance(error.args[0], BaseException):
    error = error.args[0]
  return str(error.args[0]) if isinstance(error, (KeyError, SyntaxError)) and error.args else str(error)


def refuse_urls(name: str, value: object) -> None:
  """Raises UserError for a URL in the value of a flag, also in the fields of a config."""
  if isinstance(value, str):
    buckets.local_path(value, name)
  elif isinstance(value, ConfigDict):
    for field, part in value.items():
      refuse_urls(f"{name}.{field}", part)
  elif isinstance(value, list | tuple):
    for part in value:
      refuse_urls(name, part)


def values_of(flag_values: flags.FlagValues, *names: str) -> dict[str, Any]:
  """The values of some flags by name."""
  return {name: flag_values[name].value for name in names}


def check_needs(flag_values: flags.FlagValues, needs: Mapping[str, str]) -> None:
  """Raises a UserError for a flag that would be ignored: it is given, and the one that it needs is not set."""
  for name, needed in needs.items():
    if flag_values[name].present and not flag_values[needed].value:
      raise UserError(f"--{name} needs --{needed}; set it, or leave --{name} out")


def integers(flag: str, words: Sequence[str]) -> tuple[int, ...]:
  """The numbers of a list flag; UserError if a word is not an integer."""
  if wrong := [word for word in words if not word.strip().removeprefix("-").isdecimal()]:
    raise UserError(f"--{flag}: {wrong[0]!r} is not an integer; give a list such as 0,1")
  return tuple(int(word) for word in words)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
  """`; did you mean 'CHOICE'?` with the closest choice; '' if none is close."""
  close = difflib.get_close_matches(word, list(choices), n=1)
  return f"; did you mean {close[0]!r}?" if close else ""
