"""`vidgen COMMAND [--flag=value ...]`: runs one command, and reports the user's mistakes in one line.

A command is a module of `vidgen_jax.commands`, imported only when it runs, with these names:

- `SUMMARY: str`: what the command does and needs; the list of commands shows its first line.
- `define_flags(flag_values: flags.FlagValues) -> None`: defines the command's flags in `flag_values`.
- `run(flag_values: flags.FlagValues, arguments: list[str]) -> int | None`: runs the command; None is success.
- `BUCKET_FLAGS: tuple[str, ...]` (optional): names of the flags that accept gs://BUCKET/NAME as well as local paths.
- `WEB_FLAGS: tuple[str, ...]` (optional): names of the flags that accept http(s) addresses as well as local paths.

Exit status: 0 for success; 2 for a mistake that the user can fix, reported in one line on stderr; 75 if the platform
stopped the process, which should be started again; 130 if interrupted; otherwise the result of `run`. Any other
exception is a defect of this package and keeps its traceback.
"""

import errno
import importlib
import importlib.util
import logging
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NoReturn

from absl import flags
from absl import logging as absl_logging
from tqdm import tqdm

import vidgen_jax
from vidgen_jax.commands.flag_parsing import did_you_mean, parse_flags, refuse_urls
from vidgen_jax.errors import UserError


class Command(NamedTuple):
  """The module of a command, and its positional arguments in the usage line."""

  module: str
  arguments: str = ""


_NAMES = ("train", "sample", "figures", "evaluate", "compare", "features", "classify", "export", "bench")
COMMANDS = {name: Command(module=f"vidgen_jax.commands.{name}") for name in _NAMES} | {
  "compare-runs": Command(module="vidgen_jax.commands.compare_runs", arguments="RUN..."),
  "data": Command(module="vidgen_jax.commands.data", arguments="ACTION NAME"),
  "weights": Command(module="vidgen_jax.commands.weights", arguments="ACTION"),
  "fidelity": Command(module="vidgen_jax.commands.fidelity", arguments="[GAN]"),
}

_HELP_FLAGS = frozenset({"-h", "-help", "--help", "--helpshort", "--helpfull"})

_DISK_REMEDIES = {
  **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space or choose another folder"),
  **dict.fromkeys((errno.EACCES, errno.EPERM), "choose a readable and writable folder, or change its permissions"),
  errno.EROFS: "choose a folder that can be written",
  errno.ENOTDIR: "choose a folder, not a file",
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
  """Runs one command and exits with its status; `argv` defaults to the words of `sys.argv`."""
  sys.exit(dispatch(sys.argv[1:] if argv is None else argv))


def dispatch(argv: Sequence[str]) -> int:
  """Runs COMMAND, followed by flags and positional arguments in any order, and returns the exit status."""
  try:
    return _dispatch(list(argv))
  except UserError as error:
    message, status = str(error), error.exit_status
  except KeyboardInterrupt:
    sys.stderr.write("\nvidgen: interrupted\n")
    return 130
  except OSError as error:
    if error.errno not in _DISK_REMEDIES:
      raise
    message = f"{error.filename or 'cannot write'}: {error.strerror}; {_DISK_REMEDIES[error.errno]}"
    status = UserError.exit_status
  sys.stderr.write(f"vidgen: error: {' '.join(message.split())}\n")
  return status


def _dispatch(argv: list[str]) -> int:
  if not argv or argv[0] in _HELP_FLAGS or argv[0] == "help":
    sys.stdout.write(_list_commands())
    return 0
  if argv[0] == "--version":
    sys.stdout.write(f"vidgen_jax {vidgen_jax.__version__}\n")
    return 0
  name, *words = argv
  if name not in COMMANDS:
    hint = did_you_mean(name, COMMANDS) or ";"
    raise UserError(f"unknown command {name!r}{hint} the commands are {', '.join(COMMANDS)}")
  command = COMMANDS[name]
  # Before the import, because orbax logs on import, and absl adds a handler to a root logger that has none.
  _log_to_stderr(verbose=False)
  module = importlib.import_module(command.module)
  flag_values = flags.FlagValues()
  # Allows flags after positional arguments: `vidgen data build shape_motion --num_clips=8`.
  flag_values.set_gnu_getopt(True)
  flags.DEFINE_bool("verbose", False, "also show the logs of libraries (orbax, grain, ...)", flag_values=flag_values)
  module.define_flags(flag_values)
  if _HELP_FLAGS.intersection(words[: words.index("--")] if "--" in words else words):
    sys.stdout.write(_describe_command(name, module, flag_values))
    return 0
  arguments = parse_flags(words, flag_values, command=name)
  if arguments and not command.arguments:
    raise UserError(f"vidgen {name} takes no arguments, got {arguments[0]!r}; flags are written --name=value")
  for flag_name in sorted(set(flag_values) - set(getattr(module, "BUCKET_FLAGS", ()))):
    value, is_web = flag_values[flag_name].value, flag_name in getattr(module, "WEB_FLAGS", ())
    if not (is_web and str(value).startswith(("http://", "https://"))):
      refuse_urls(f"--{flag_name}", value)
  refuse_urls("", arguments)
  _log_to_stderr(verbose=flag_values.verbose)
  return module.run(flag_values, arguments) or 0


def _list_commands() -> str:
  width = max(map(len, COMMANDS))
  lines = [f"  {name:<{width}}  {_summary_line(command.module)}".rstrip() for name, command in COMMANDS.items()]
  head = f"{vidgen_jax.__doc__}\n\nusage: vidgen COMMAND [--flag=value ...]\n\ncommands:"
  return "\n".join([head, *lines, "", "`vidgen COMMAND --help` describes a command and its flags.", ""])


def _summary_line(module_name: str) -> str:
  """The first line of a module's SUMMARY, from its source, because importing the models takes seconds."""
  spec = importlib.util.find_spec(module_name)
  source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
  return "".join(re.findall(r'^SUMMARY = """(.*)', source, re.MULTILINE))


def _describe_command(name: str, module: ModuleType, flag_values: flags.FlagValues) -> str:
  width = min(shutil.get_terminal_size((100, 24)).columns, 120)
  usage = f"usage: vidgen {name} {COMMANDS[name].arguments}".rstrip()
  text = f"{usage} [--flag=value ...]\n\n{module.SUMMARY.strip()}\n\nflags:\n"
  for flag in dict.fromkeys(flag_values[flag_name] for flag_name in flag_values):
    head = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    default = "" if flag.default is None else f" (default: {flag.default_as_str})"
    text += f"  {head}\n{flags.text_wrap((flag.help or '') + default, width, '      ')}\n"
  return text


class _StderrHandler(logging.Handler):
  """Writes one line per record above the progress bar; records of other packages below WARNING only if verbose."""

  def __init__(self):
    super().__init__()
    self.verbose = False
    self.setFormatter(logging.Formatter("%(levelname).1s %(asctime)s %(message)s", datefmt="%H:%M:%S"))
    self.addFilter(self._is_wanted)

  def _is_wanted(self, record: logging.LogRecord) -> bool:
    own = Path(record.pathname).is_relative_to(Path(__file__).parent)
    return own or self.verbose or record.levelno >= logging.WARNING

  def emit(self, record: logging.LogRecord) -> None:
    try:
      tqdm.write(self.format(record), file=sys.stderr)
    except (OSError, ValueError):
      self.handleError(record)


_STDERR_HANDLER = _StderrHandler()


def _log_to_stderr(*, verbose: bool) -> None:
  _STDERR_HANDLER.verbose = verbose
  absl_logging.set_verbosity(absl_logging.INFO)
  logging.getLogger().addHandler(_STDERR_HANDLER)
