"""Scores over several trainings of one experiment, from the scores of each (Inbetweening, 4.1)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.buckets import read_text, user_path
from vidgen_jax.errors import UserError
from vidgen_jax.scores.feature_collector import MODEL
from vidgen_jax.scores.metrics.bootstrap import mean_interval
from vidgen_jax.scores.registry import METRICS
from vidgen_jax.scores.report import COMPARED, SCORES_FILE, Score

Rows = dict[tuple[Any, ...], dict[str, Any]]
"""Lines of a score file by the values of `_PROTOCOL`."""

_PROTOCOL = tuple(name for name in COMPARED if name != "seed")


def read_rows(run: str, *, split: str | None = None, metrics: Sequence[str] = ()) -> Rows:
  """The latest score of a run's model by each protocol, of one split and some metrics if these are given.

  Raises:
    UserError: the folder has no such scores.
  """
  known = set(metrics) or {metric.row for metric in METRICS.values()}
  rows: Rows = {}
  for line in (read_text(user_path(run) / SCORES_FILE) or "").splitlines():
    try:
      row = json.loads(line)
    except ValueError:  # A killed process may leave an incomplete line.
      continue
    wanted = row.get("subject") == MODEL and row.get("metric") in known and split in (None, row.get("split"))
    if wanted and row["value"] is not None:
      rows[tuple(row.get(name) for name in _PROTOCOL)] = row
  if not rows:
    what = ", ".join(filter(None, [f"split {split!r}" if split else "", *metrics]))
    raise UserError(f"{run} has no scores{f' of {what}' if what else ''}; run `vidgen evaluate --workdir={run}` first")
  steps = sorted({row["step"] for row in rows.values()})
  logging.info("%s: %d scores of step %s", run, len(rows), ", ".join(map(str, steps)))
  return rows


def scores_over_runs(runs: Mapping[str, Rows]) -> list[Score]:
  """Mean, unbiased standard deviation and bootstrap interval over runs of each score that all runs have.

  Raises:
    UserError: if the runs were scored by different protocols.
  """
  first, *others = runs
  common = [key for key in runs[first] if all(key in runs[name] for name in others)]
  metrics = {runs[first][key]["metric"] for key in common}
  for name in others:
    for row in runs[first].values():
      if row["metric"] not in metrics:
        _refuse_other_protocol(first, row, name, runs[name])
  results = []
  for key in common:
    values = np.array([rows[key]["value"] for rows in runs.values()], float)
    fields = dict(zip(_PROTOCOL, key, strict=True))
    fields["protocol"] = f"{fields['protocol']}; mean, deviation and bootstrap interval over {len(runs)} runs"
    score = Score(
      **fields,
      value=float(values.mean()),
      deviation=float(values.std(ddof=1)),
      interval=mean_interval(values),
      unit=runs[first][key].get("unit", ""),
      extractor=runs[first][key].get("extractor"),
      subject=f"{len(runs)} runs",
    )
    results.append(score)
  return results


def _refuse_other_protocol(run: str, row: Mapping[str, Any], other_run: str, others: Rows) -> None:
  """Raises a UserError with the difference between a score and the most similar one of another run."""
  same = [other for other in others.values() if other["metric"] == row["metric"]]
  remedy = "score all runs with the same command, or choose others with --metrics or --split"
  if not same:
    raise UserError(f"{run} has scores of {row['metric']}, {other_run} has not; {remedy}")
  differing = [[name for name in _PROTOCOL if row.get(name) != other.get(name)] for other in same]
  names, other = min(zip(differing, same, strict=True), key=lambda pair: len(pair[0]))
  if names:
    texts = (f"{name}={row.get(name)!r} in {run}, {other.get(name)!r} in {other_run}" for name in names)
    raise UserError(f"{row['metric']} was scored by different protocols: {'; '.join(texts)}; {remedy}")
