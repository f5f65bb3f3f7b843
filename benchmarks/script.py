"""Flags, errors and output that the scripts of this folder share."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from vidgen_jax.bench.measurements import Report, write_report
from vidgen_jax.commands.flag_parsing import parse_flags
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable


def run_script(define_flags: Callable[[flags.FlagValues], None], measure: Callable[[flags.FlagValues], Report]) -> None:
  """Parses `sys.argv`, measures, and prints the report; --out also writes it to a file.

  Args:
    define_flags: defines the script's flags in the flag values that it receives.
    measure: measures with the parsed flags.
  """
  name, *words = sys.argv
  flag_values = flags.FlagValues()
  flags.DEFINE_string("out", None, "file for the figures, one JSON object per line", flag_values=flag_values)
  define_flags(flag_values)
  if "--help" in words:
    sys.stdout.write(f"usage: {name} [--flag=value ...]\n{flag_values.get_help()}")
    return
  try:
    parse_flags(words, flag_values, command=Path(name).stem)
    out = check_writable(flag_values.out, "--out")
    write_report(measure(flag_values), out)
  except UserError as error:
    sys.exit(f"{name}: error: {error}")


def parse_shape(flag: str, text: str, example: str) -> tuple[int, ...]:
  """The lengths of a shape such as 8x32x32x64; as many as the example has.

  Raises:
    UserError: if the text is not such a shape.
  """
  if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text) or text.count("x") != example.count("x"):
    raise UserError(f"--{flag}={text} must be written as {example}")
  return tuple(map(int, text.split("x")))
