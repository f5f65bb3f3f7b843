"""`vidgen fidelity`: what the papers say, and what is done here."""

import sys

from absl import flags

from vidgen_jax.commands.flag_parsing import define_config, load_experiment
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import from_config_dict
from vidgen_jax.runs.fidelity import PAPERS, STATUSES, as_text, counts, differing_fields, read_items

SUMMARY = """Lists what a paper says and what is done here.

Without arguments, prints the number of items per paper. GAN is trivd, inbetween, mvt or sr_cgan. With --config, also of
your own file and with overrides, prints in which of the items' fields an experiment differs from a published one. A
workdir is not read: for a run, repeat the --config flags of its training.
Example: vidgen fidelity trivd --status=departs,absent
Example: vidgen fidelity --config=trivd_bair.py:paper --config.train.batch_size=64 --against=trivd_bair.py:paper"""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  known = ", ".join(STATUSES)
  flags.DEFINE_list("status", None, f"only items with these statuses: {known}", flag_values=flag_values)
  define_config(flag_values, help_text="experiment to compare with a published one")
  text = "--config: published experiment, as FILE.py:VARIANT; by default the paper's main one"
  flags.DEFINE_string("against", None, text, flag_values=flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  if len(arguments) > 1:
    raise UserError(f"vidgen fidelity takes one GAN, got {' '.join(arguments)}")
  if flag_values.config is not None:
    if arguments or flag_values.status:
      raise UserError("--config needs no GAN and no --status; leave them out")
    text = _differences(flag_values)
  elif flag_values.against:
    raise UserError("--against needs --config, the experiment to compare")
  elif arguments:
    text = _listing(arguments[0], flag_values.status)
  elif flag_values.status:
    raise UserError("--status needs a GAN: vidgen fidelity GAN --status=...")
  else:
    text = _overview()
  sys.stdout.write(text + "\n")


def _overview() -> str:
  lines = []
  for gan, title in PAPERS.items():
    found = counts(read_items(gan))
    numbers = ", ".join(f"{count} {STATUSES[status]}" for status, count in found.items())
    lines.append(f"{gan:<10} {title:<13} {sum(found.values()):>3} items: {numbers}")
  return "\n".join(lines)


def _listing(gan: str, statuses: list[str] | None) -> str:
  if unknown := set(statuses or ()) - set(STATUSES):
    raise UserError(f"--status={','.join(sorted(unknown))} must be among {', '.join(STATUSES)}")
  items = read_items(gan)
  return as_text([item for item in items if not statuses or item.status in statuses]) or "no items"


def _differences(flag_values: flags.FlagValues) -> str:
  config = from_config_dict(flag_values.config)
  items = read_items(config.algorithm_name)
  reference = flag_values.against or items[0].reference
  against = from_config_dict(load_experiment(reference))
  if against.algorithm_name != config.algorithm_name:
    raise UserError(f"--against={reference} is of {against.algorithm_name}, --config of {config.algorithm_name}")
  lines = [
    f"{name}={value}, in {reference} {other} ({item})"
    for name, value, other, item in differing_fields(items, config, against)
  ]
  lines.append(f"{len(lines)} of the fields that the paper decides differ from {reference}; see --against")
  return "\n".join(lines)
