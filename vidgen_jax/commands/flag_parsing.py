"""Parsing the flags of one command: whatever is wrong with them becomes a `UserError` that names the flag or field."""

import contextlib
import difflib
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from vidgen_jax import buckets
from vidgen_jax.errors import UserError

# What a mistake in a config file raises while the file is loaded, and what ml_collections raises for a bad override.
_CONFIG_ERRORS = (
  ArithmeticError,
  AttributeError,
  ImportError,
  LookupError,
  NameError,
  SyntaxError,
  TypeError,
  ValueError,
)


def parse_flags(words: Sequence[str], flag_values: flags.FlagValues, *, command: str) -> list[str]:
  """Parses `words` into `flag_values`, the overrides of config files included.

  Args:
    words: flags and positional arguments, without the program's name; those after `--` are positional.
    flag_values: holds the command's flags, not parsed yet.
    command: name of the command, for messages.

  Returns:
    The positional arguments.

  Raises:
    UserError: an unknown flag, a value that its flag does not take, a config file that is missing or broken, an
      override of a field that the config does not have.
  """
  config_files = _config_files(words, flag_values)
  try:
    with _as_sys_argv(["vidgen", *words]):
      return flag_values(["vidgen", *words])[1:]
  except flags.UnrecognizedFlagError as error:
    raise UserError(_unknown_flag(command, error.flagname, flag_values)) from None
  except flags.Error as error:
    raise UserError(_illegal_value(str(error), flag_values)) from None
  except _CONFIG_ERRORS as error:
    for file in config_files.values():
      if place := _place_in(file, error):
        raise UserError(f"{place}: {type(error).__name__}: {_text(error)}") from error
    overrides = [word.lstrip("-").split("=", 1)[0] for word in words if _is_override(word, config_files)]
    if not overrides:
      raise
    raise UserError(_bad_override(error, overrides, config_files)) from None


def _config_files(words: Sequence[str], flag_values: flags.FlagValues) -> dict[str, str]:
  """The files that the config flags name, by flag.

  Raises:
    UserError: there is no such file. ml_collections itself would say so only where the config is first read.
  """
  names = [name for name in flag_values if flag_values[name].parser.flag_type() == "config object"]
  files = {}
  words = before_separator(words)
  for position, word in enumerate(words):
    flag_name, has_value, value = word.lstrip("-").partition("=")
    if not word.startswith("-") or flag_name not in names:
      continue
    if not has_value:
      value = words[position + 1] if position + 1 < len(words) else ""
    file = value.split(":", 1)[0]
    if not Path(file).is_file():
      known = sorted(map(str, Path("experiments").glob("*.py")))
      raise UserError(f"--{flag_name}: there is no file {file!r}{did_you_mean(file, known)}; give FILE.py:VARIANT")
    files[flag_name] = file
  return files


@contextlib.contextmanager
def _as_sys_argv(argv: list[str]) -> Iterator[None]:
  """ml_collections looks for overrides in `sys.argv`, whatever it is asked to parse."""
  previous = sys.argv
  sys.argv = argv
  try:
    yield
  finally:
    sys.argv = previous


def before_separator(words: Sequence[str]) -> list[str]:
  """The words before `--`, which ends the flags."""
  return list(words[: words.index("--")] if "--" in words else words)


def _is_override(word: str, config_files: Mapping[str, str]) -> bool:
  flag_name, has_field, _ = word.split("=", 1)[0].lstrip("-").partition(".")
  is_config = flag_name in config_files or flag_name.removeprefix("no") in config_files
  return word.startswith("-") and bool(has_field) and is_config


def _unknown_flag(command: str, flag_name: str, flag_values: flags.FlagValues) -> str:
  root = flag_name.split(".", 1)[0]
  if root != flag_name and root in flag_values:
    return f"--{flag_name}: give --{root}=FILE.py:VARIANT before its overrides"
  suggestion = did_you_mean(flag_name, flag_values)
  return f"unknown flag --{flag_name}{suggestion}; `vidgen {command} --help` lists the flags"


def _illegal_value(message: str, flag_values: flags.FlagValues) -> str:
  match = re.match(r"flag --([^=]+)=(.*?): (.*)", message, re.DOTALL)
  if match is None:
    # ml_collections adds a paragraph on tuples to some of its messages.
    return message.split(" Currently supported types")[0]
  name, value, reason = match.groups()
  if "must have a value other than None" in reason:
    return f"--{name} is required"
  if "Error whilst parsing config file" in reason:
    return f"--{name}={value}: {reason.strip().splitlines()[-1]}"
  flag_type = flag_values[name].flag_type() if name in flag_values else "string"
  expected = "" if flag_type == "string" else f"expected a value of type {flag_type}: "
  return f"--{name}={value}: {expected}{reason}"


def _place_in(file: str, error: BaseException) -> str:
  """`FILE, line N` where the error left that file, '' if it never was there."""
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


def refuse_urls(flag_values: flags.FlagValues, arguments: Sequence[str], *, but: Sequence[str]) -> None:
  """Refuses URLs, which would be taken for names of local files.

  Args:
    flag_values: the parsed flags, of whose configs every field counts.
    arguments: the positional ones.
    but: names of the flags that know buckets; see `user_path`.

  Raises:
    UserError: naming the flag or field.
  """
  values = {f"--{name}": flag_values[name].value for name in flag_values if name not in but}
  for name, value in [*values.items(), *(("", argument) for argument in arguments)]:
    for field, text in _texts(name, value):
      buckets.local_path(text, field)


def _texts(name: str, value: object) -> Iterator[tuple[str, str]]:
  """All texts that a flag's value is made of, and their names."""
  if isinstance(value, str):
    yield name, value
  elif isinstance(value, ConfigDict):
    for field, part in value.items():
      yield from _texts(f"{name}.{field}", part)
  elif isinstance(value, list | tuple):
    for part in value:
      yield from _texts(name, part)


def integers(flag: str, words: Sequence[str]) -> tuple[int, ...]:
  """The numbers of a list flag.

  Raises:
    UserError: if one of the words is none.
  """
  if wrong := [word for word in words if not word.strip().removeprefix("-").isdecimal()]:
    raise UserError(f"--{flag}: {wrong[0]!r} is no number; give a list such as 0,1")
  return tuple(int(word) for word in words)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
  """`; did you mean 'CHOICE'?` with the nearest of the choices, '' if none is near."""
  close = difflib.get_close_matches(word, list(choices), n=1)
  return f"; did you mean {close[0]!r}?" if close else ""
