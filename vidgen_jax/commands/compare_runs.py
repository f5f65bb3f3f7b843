"""`vidgen compare-runs`: scores over several trainings of one experiment."""

import sys
from typing import Any

from absl import flags

from vidgen_jax.buckets import user_path
from vidgen_jax.commands.flag_parsing import did_you_mean
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.scores.registry import METRICS
from vidgen_jax.scores.report import append_scores, score_table
from vidgen_jax.scores.run_comparison import read_rows, scores_over_runs

SUMMARY = """Prints mean, standard deviation and 95 % interval of scores over several trainings.

Needs the folders of two or more runs that differ in their seed, each scored by `vidgen evaluate`. If a run was scored
several times by one protocol, the latest score counts, whatever its step, which is logged: steps may differ between
runs. After --follow or --all_checkpoints compare RUN/best, or first score one step of each RUN with --step. Runs that
were scored by different protocols are refused; a score that only some runs have is logged and left out.
Example: vidgen compare-runs runs/between_0/best runs/between_1/best runs/between_2/best --metrics=fvd,diversity"""


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the command."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_list("metrics", [], "names of metrics, as in the scores; default: all", **values)
  flags.DEFINE_string("split", None, "split of the scores; default: all", **values)
  flags.DEFINE_string("out", None, "file to which scores are appended, one JSON object per line", **values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  out, known = check_writable(flag_values.out, "--out"), {metric.row for metric in METRICS.values()}
  if len(arguments) < 2:
    raise UserError(f"compare-runs needs the folders of two or more runs, got {len(arguments)}")
  folders = [user_path(name).resolve() for name in arguments]
  if repeated := [name for index, name in enumerate(arguments) if folders[index] in folders[:index]]:
    raise UserError(f"{repeated[0]} is listed twice")
  if unknown := [name for name in flag_values.metrics if name not in known]:
    raise UserError(
      f"--metrics: {unknown[0]!r} must be one of {', '.join(sorted(known))}{did_you_mean(unknown[0], known)}"
    )
  rows = {name: read_rows(name, split=flag_values.split, metrics=flag_values.metrics) for name in arguments}
  scores = scores_over_runs(rows)
  sys.stdout.write(f"{score_table(scores)}\n")
  if out is not None:
    append_scores(out, scores)
