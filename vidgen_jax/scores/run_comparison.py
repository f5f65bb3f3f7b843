"""Scores over several trainings of one experiment, from the scores of each (Inbetweening, 4.1)."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from absl import logging

from vidgen_jax.buckets import user_path
from vidgen_jax.errors import UserError
from vidgen_jax.scores.feature_collector import MODEL
from vidgen_jax.scores.metrics.intervals import mean_interval
from vidgen_jax.scores.registry import METRICS
from vidgen_jax.scores.report import COMPARED, SCORES_FILE, Score, read_scores

_Key = tuple[Any, ...]
Rows = dict[_Key, dict[str, Any]]
"""Lines of a score file by the values of `_PROTOCOL`."""

_PROTOCOL = tuple(name for name in COMPARED if name != "seed")
_METRIC = _PROTOCOL.index("metric")
_REMEDY = "score all runs with the same command, or choose others with --metrics or --split"


def read_rows(run: str, *, split: str | None = None, metrics: Sequence[str] = ()) -> Rows:
  """The latest score of a run's model by each protocol, of one split and some metrics if these are given.

  Raises:
    UserError: the folder has no such scores.
  """
  known = set(metrics) or {metric.row for metric in METRICS.values()}
  rows: Rows = {}
  for row in read_scores(user_path(run) / SCORES_FILE):
    if row.get("subject") == MODEL and row.get("metric") in known and split in (None, row.get("split")):
      rows[tuple(row.get(name) for name in _PROTOCOL)] = row
  if not rows:
    what = ", ".join(filter(None, [f"split {split!r}" if split else "", *metrics]))
    raise UserError(f"{run} has no scores{f' of {what}' if what else ''}; run `vidgen evaluate --workdir={run}` first")
  steps = dict.fromkeys(str(row.get("step")) for row in rows.values())
  logging.info("%s: %d scores of step %s", run, len(rows), ", ".join(steps))
  return rows


def scores_over_runs(runs: Mapping[str, Rows]) -> list[Score]:
  """Mean, unbiased standard deviation and Student's t interval over runs of each score that all runs have.

  Logs scores that only some runs have, and those that are not finite, whose mean is NaN.

  Raises:
    UserError: if the runs were scored by different protocols.
  """
  common = [key for key in next(iter(runs.values())) if all(key in rows for rows in runs.values())]
  _check_protocols(runs, common)
  results = []
  for key in common:
    values = np.array([rows[key]["value"] for rows in runs.values()])
    fields = dict(zip(_PROTOCOL, key, strict=True))
    broken = [name for name, value in zip(runs, values, strict=True) if not np.isfinite(value)]
    if broken:
      logging.warning("%s is NaN: the latest score of %s is not finite", fields["metric"], ", ".join(broken))
    fields["protocol"] = f"{fields['protocol']}; mean, deviation and t interval over {len(runs)} runs"
    row = next(iter(runs.values()))[key]
    score = Score(
      **fields,
      value=float(values.mean()),
      deviation=float(values.std(ddof=1)),
      interval=None if broken else mean_interval(values),
      unit=row.get("unit", ""),
      extractor=row.get("extractor"),
      subject=f"{len(runs)} runs",
    )
    results.append(score)
  return results


def _check_protocols(runs: Mapping[str, Rows], common: Sequence[_Key]) -> None:
  """Logs the scores that only some runs have; raises a UserError if those of a metric have no common protocol."""
  metrics = {run: dict.fromkeys(row["metric"] for row in rows.values()) for run, rows in runs.items()}
  for metric in dict.fromkeys(itertools.chain.from_iterable(metrics.values())):
    if lacking := ", ".join(run for run in runs if metric not in metrics[run]):
      having = ", ".join(run for run in runs if metric in metrics[run])
      if not common:
        raise UserError(f"{having} has scores of {metric}, {lacking} has not; {_REMEDY}")
      logging.warning("%s is left out: %s has no scores of it", metric, lacking)
      continue
    shared = [key for key in common if key[_METRIC] == metric]
    for run, rows in runs.items():
      for key in [key for key in rows if key[_METRIC] == metric and key not in common]:
        if not shared:
          _refuse(key, run, runs)
        names, _ = _nearest(key, shared)
        text = ", ".join(f"{name}={rows[key].get(name)!r}" for name in names)
        logging.warning("%s: the score of %s with %s is left out: not all runs have it", run, metric, text)


def _refuse(key: _Key, run: str, runs: Mapping[str, Rows]) -> NoReturn:
  """Raises a UserError with the difference between a score and the most similar one of a run without it."""
  other_run = next(name for name, rows in runs.items() if key not in rows)
  names, other = _nearest(key, [other for other in runs[other_run] if other[_METRIC] == key[_METRIC]])
  row, other_row = runs[run][key], runs[other_run][other]
  texts = (f"{name}={row.get(name)!r} in {run}, {other_row.get(name)!r} in {other_run}" for name in names)
  raise UserError(f"{key[_METRIC]} was scored by different protocols: {'; '.join(texts)}; {_REMEDY}")


def _nearest(key: _Key, others: Iterable[_Key]) -> tuple[list[str], _Key]:
  """The fields in which a score differs from the most similar one, and that one."""
  pairs = (([name for name, a, b in zip(_PROTOCOL, key, other, strict=True) if a != b], other) for other in others)
  return min(pairs, key=lambda pair: len(pair[0]))
