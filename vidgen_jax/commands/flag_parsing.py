"""Parsing the flags of one command; a mistake in them becomes a `UserError` that names the flag or field."""

import difflib
import re
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


def define_config(flag_values: flags.FlagValues, *, help_text: str = "experiment to use") -> None:
  """Defines --config, a file with `get_config(variant)`, whose fields are overridden with --config.FIELD=VALUE."""
  config_flags.DEFINE_config_file(
    "config",
    None,
    f"{help_text}: FILE.py:VARIANT, a path or the name of a file in experiments/; override its fields with "
    "--config.FIELD=VALUE",
    flag_values=flag_values,
  )


def parse_flags(words: Sequence[str], flag_values: flags.FlagValues, *, command: str) -> list[str]:
  """Parses `words` into `flag_values`, overrides of config fields included; returns the positional arguments.

  Args:
    words: flags and positional arguments, without the program's name; all words after `--` are positional.
    flag_values: the command's flags, not parsed yet.
    command: name of the command, for messages.

  Raises:
    UserError: for an unknown flag, an invalid value, a missing or broken config file, or an override of a field that
      the config does not have.
  """
  words, config_files = _find_config_files(words, flag_values)
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
  except Exception as error:  # By a mistake in a config file, or by ml_collections for a bad override.
    for file in config_files.values():
      if position := _position_in(file, error):
        raise UserError(f"{position}: {type(error).__name__}: {_text(error)}") from error
    if "has no attribute 'get_config'" in str(error):
      file = next(iter(config_files.values()), "the config file")
      raise UserError(f"{file} has no function get_config(variant), which must return a ConfigDict") from error
    pattern = re.compile(rf"--?((?:no)?(?:{'|'.join(config_files)})\.[^=]*)")
    overrides = [match[1] for match in map(pattern.match, words) if match]
    if not overrides:
      raise
    raise UserError(_bad_override(error, overrides, config_files)) from None
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
  raise UserError(
    f"--config: there is no file {name!r}{did_you_mean(path.stem, known)}; give FILE.py:VARIANT with the path of a "
    f"file or one of {', '.join(known)}"
  )


def _find_config_files(words: Sequence[str], flag_values: flags.FlagValues) -> tuple[list[str], dict[str, str]]:
  """(the words with the paths of config files, the paths by flag). ml_collections would report a missing file late."""
  names = [name for name in flag_values if flag_values[name].parser.flag_type() == "config object"]
  found, files = list(words), {}
  for position, word in enumerate(before_separator(words)):
    flag_name, has_value, value = word.lstrip("-").partition("=")
    if not word.startswith("-") or flag_name not in names:
      continue
    if not has_value:
      position += 1
      value = words[position] if position < len(words) else ""
    name, colon, variant = value.partition(":")
    files[flag_name] = find_experiment(name)
    # ml_collections would run the file in the module of an earlier config, whose `get_config` an empty file would keep.
    sys.modules.pop(f"{flag_name}_config", None)
    found[position : position + 1] = [f"{f'--{flag_name}=' if has_value else ''}{files[flag_name]}{colon}{variant}"]
  return found, files


def before_separator(words: Sequence[str]) -> list[str]:
  """The words before `--`, which ends the flags."""
  return list(words[: words.index("--")] if "--" in words else words)


def _unknown_flag(command: str, flag_name: str, flag_values: flags.FlagValues) -> str:
  root = flag_name.split(".", 1)[0]
  if root != flag_name and root in flag_values:
    return f"--{flag_name}: give --{root}=FILE.py:VARIANT before its overrides"
  suggestion = did_you_mean(flag_name, flag_values)
  return f"unknown flag --{flag_name}{suggestion}; `vidgen {command} --help` lists the flags"


def _illegal_value(message: str, flag_values: flags.FlagValues) -> str:
  match = re.match(r"flag --([^=]+)=(.*?): (.*)", message, re.DOTALL)
  if match is None:
    # ml_collections appends a paragraph on tuples to some of its messages.
    return message.split(" Currently supported types")[0]
  name, value, reason = match.groups()
  if "must have a value other than None" in reason:
    return f"--{name} is required"
  if "Error whilst parsing config file" in reason:
    return f"--{name}={value}: {reason.strip().splitlines()[-1]}"
  flag_type = flag_values[name].flag_type() if name in flag_values else "string"
  expected = "" if flag_type == "string" else f"expected a value of type {flag_type}: "
  return f"--{name}={value}: {expected}{reason}"


def _position_in(file: str, error: BaseException) -> str:
  """`FILE, line N` of the last traceback entry in a file; '' if there is none."""
  if isinstance(error, SyntaxError) and error.filename == file:
    return f"{file}, line {error.lineno}"
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
  return f"{file}, line {lines[-1]}" if lines else ""


def _bad_override(error: Exception, overrides: Sequence[str], config_files: Mapping[str, str]) -> str:
  text = _text(error)
  quoted = re.match(r"'([^']+)'", text)
  field = quoted.group(1) if quoted else ""
  override = next((o for o in overrides if field in o.split(".")[1:] or o.split(".", 1)[1] in text), None)
  if override is None:
    return f"--{', --'.join(overrides)}: {text}"
  if not isinstance(error, (AttributeError, KeyError)):
    return f"--{override}: {text}"
  suggestion = re.search(r'Did you mean "([^"]+)"', text)
  hint = f"; did you mean {suggestion.group(1)!r} instead of {field!r}?" if suggestion else ""
  return f"--{override}: {config_files[override.split('.', 1)[0].removeprefix('no')]} has no such field{hint}"


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


def integers(flag: str, words: Sequence[str]) -> tuple[int, ...]:
  """The numbers of a list flag; UserError if a word is not an integer."""
  if wrong := [word for word in words if not word.strip().removeprefix("-").isdecimal()]:
    raise UserError(f"--{flag}: {wrong[0]!r} is not an integer; give a list such as 0,1")
  return tuple(int(word) for word in words)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
  """`; did you mean 'CHOICE'?` with the closest choice; '' if none is close."""
  close = difflib.get_close_matches(word, list(choices), n=1)
  return f"; did you mean {close[0]!r}?" if close else ""
