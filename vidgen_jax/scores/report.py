"""Scores together with everything they depend on, as a table for people and as JSON lines for programs."""

import collections
import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.buckets import AnyPath, read_text, user_path
from vidgen_jax.errors import UserError
from vidgen_jax.files import append_text

SCORES_FILE = "scores.jsonl"
"""Name of the file in the folder of a run."""

_COLUMNS = ("subject", "metric", "value", "unit")
_HIDDEN = (*_COLUMNS, "inputs")
_OF_ONE_SCORE = ("protocol", "num_generated", "interval", "deviation")
_LONG_PROTOCOL = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """One number and its protocol. None means that a field does not apply: a baseline has no weights."""

  metric: str
  """`Metric.row` of a metric in `vidgen_jax.scores.registry.METRICS`, or '{row}_frame_{index}'."""
  value: float
  """With several `repeats` their mean."""
  subject: str
  """What was scored: 'model', or the name of a baseline or a set."""
  protocol: str
  """How frames, clips and samples were combined: 'frame_mean, best of 10 samples'."""
  split: str
  num_clips: int
  """Number of real clips."""
  data: str | None = None
  """Data set of the real clips."""
  window: str | None = None
  """How the real clips are cut from videos: temporal position of the window with its seed, framing."""
  lossy: bool | None = None
  """True if the real clips are stored with loss, as JPEG."""
  standing_data: str | None = None
  """Data set of the standing statistics."""
  unit: str = ""
  num_generated: int | None = None
  """Number of generated clips, if it is not `num_clips` times `samples`."""
  samples: int = 1
  """Number of samples per clip."""
  pooled: bool | None = None
  """True if the samples of all clips are scored as one set, instead of one set per sample."""
  repeats: int | None = None
  """Number of evaluations, if there are several, each with its own standing statistics and seed; see `value`."""
  weights: str | None = None
  """'ema' or 'raw'."""
  batch_norm: str | None = None
  """'standing' or 'batch'."""
  truncation: float | None = None
  """Half-width at which the latent is cut, in standard deviations."""
  sampling_means: str | None = None
  """Means of the latent's parts, such as '4,2,0'; None if all are 0."""
  seed: int | None = None
  step: int | None = None
  """Train step of the checkpoint."""
  clip: str | None = None
  """Frames x height x width x channels of the clips."""
  conditioning_indices: str | None = None
  """0-based indices of the conditioning frames, such as '0 3 6'; None without conditioning frames."""
  extractor: str | None = None
  """Feature network."""
  extractor_hash: str | None = None
  """Hash of the network's weights."""
  interval: tuple[float, float] | None = None
  """95 % confidence interval of `value`; with several `repeats` the mean of their intervals."""
  deviation: float | None = None
  """Unbiased standard deviation of the `repeats` (TrIVD-GAN-FP, table 3); without them of the sets of samples or splits
  of which `value` is the mean."""
  inputs: dict[str, Any] | None = dataclasses.field(default=None, compare=False)
  """Command, sets of clips, versions and device, see `vidgen_jax.scores.inputs`; not in tables."""

  def to_json(self) -> str:
    """One line of JSON with all fields; values and intervals that are not finite become null."""
    fields = dataclasses.asdict(self)
    for name in ("value", "deviation", "interval"):
      if fields[name] is not None and not np.isfinite(fields[name]).all():
        fields[name] = None
    return json.dumps(fields, allow_nan=False)


COMPARED = tuple(
  field.name
  for field in dataclasses.fields(Score)
  if field.name not in ("value", "interval", "deviation", "unit", "step", "subject", "extractor", "inputs")
)
"""Fields of a score that must be equal for models to be compared by it."""


def mean_of_repeats(repeats: Sequence[Sequence[Score]]) -> list[Score]:
  """Means and unbiased standard deviations of the scores of repeated evaluations.

  Scores without `repeats`, those of baselines, are of the first evaluation and stay as they are. A score that is
  missing in some evaluations is left out.
  """

  def key(score: Score) -> tuple[str | None, ...]:
    return score.subject, score.metric, score.protocol, score.extractor_hash

  found = [{key(score): score for score in scores if score.repeats} for scores in repeats]
  counts = collections.Counter(itertools.chain.from_iterable(found))
  for (_, metric, *_), count in counts.items():
    if count < len(repeats):
      logging.warning("%s is left out: only %d of %d evaluations have it", metric, count, len(repeats))
  results = []
  for score in repeats[0]:
    if not score.repeats:
      results.append(score)
      continue
    if counts[key(score)] < len(repeats):
      continue
    same = [scores[key(score)] for scores in found]
    values = np.array([one.value for one in same])
    intervals = [one.interval for one in same if one.interval is not None]
    interval = None
    if len(intervals) == len(same):
      low, high = np.mean(intervals, axis=0)
      interval = float(low), float(high)
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    results.append(dataclasses.replace(score, value=mean, deviation=deviation, interval=interval))
  return results


def frames_text(frames: Sequence[int]) -> str | None:
  """Frame indices in the format of `Score.conditioning_indices`."""
  return " ".join(map(str, frames)) or None


def append_scores(path: str | os.PathLike[str], scores: Iterable[Score]) -> None:
  """Appends the scores to a file, one JSON object per line."""
  append_text(path, "".join(score.to_json() + "\n" for score in scores))


def read_scores(path: AnyPath) -> list[dict[str, Any]]:
  """The lines of a file of `append_scores`, with NaN for null values; none if it is missing.

  Logs and skips damaged lines.
  """
  rows = []
  for number, line in enumerate(_lines(path), start=1):
    try:
      row = json.loads(line)
      row["value"] = math.nan if row["value"] is None else float(row["value"])
      rows.append(row)
    except (ValueError, TypeError, KeyError):  # A killed process may leave an incomplete line.
      logging.warning("%s: line %d is no score and is skipped", path, number)
  return rows


def _lines(path: AnyPath) -> list[str]:
  try:
    text = read_text(path)
  except UnicodeDecodeError as error:
    raise UserError(f"{path} is no file of scores: {error}; give the .jsonl file of --out") from error
  return [] if text is None else text.splitlines()


def read_score(place: str) -> dict[str, Any]:
  """The score at FILE:LINE, with lines counted from 1.

  Raises:
    UserError: if there is no such line, or it is no score.
  """
  file, _, number = place.rpartition(":")
  if not file or not number.isdecimal():
    raise UserError(f"{place} is not FILE:LINE, such as scores.jsonl:1")
  lines = _lines(user_path(file))
  try:
    row = json.loads(lines[int(number) - 1]) if 0 < int(number) <= len(lines) else {}
    return row | {"value": math.nan if row["value"] is None else float(row["value"]), "metric": row["metric"]}
  except (ValueError, TypeError, KeyError, IndexError) as error:
    raise UserError(f"{file} has no score in line {number[:20]} of {len(lines)}") from error


def score_table(scores: Sequence[Score]) -> str:
  """An aligned table, one row per score.

  Fields with one value are in the head above the table, fields that no score has are left out, and long protocols are
  numbered footnotes.
  """
  if not scores:
    return "(no scores)"
  head, columns = [], list(_COLUMNS)
  for name in (field.name for field in dataclasses.fields(Score) if field.name not in _HIDDEN):
    cells = [_cell(getattr(score, name)) for score in scores]
    known = set(cells) - {"-"}
    if len(known) == 1 and ("-" not in cells or name not in _OF_ONE_SCORE):
      head.append(f"{name}: {known.pop()}{_scope(scores, cells)}")
    elif known:
      columns.append(name)
  notes: dict[str, str] = {}
  rows = [columns, *([_text(score, name, notes) for name in columns] for score in scores)]
  widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
  sides = ["<" if isinstance(getattr(scores[0], name), str) else ">" for name in columns]
  lines = [
    "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
    for row in rows
  ]
  rule = "  ".join("-" * width for width in widths)
  foot = [f"{mark} {text}" for text, mark in notes.items()]
  return "\n\n".join("\n".join(part) for part in (head, [lines[0], rule, *lines[1:]], foot) if part)


def _scope(scores: Sequence[Score], cells: Sequence[str]) -> str:
  """Which scores a field of the head applies to, if not to all."""
  if "-" not in cells:
    return ""
  subjects = {score.subject for score, cell in zip(scores, cells, strict=True) if cell != "-"}
  return f" ({subjects.pop()})" if len(subjects) == 1 else " (where it applies)"


def _text(score: Score, name: str, notes: dict[str, str]) -> str:
  cell = _cell(getattr(score, name))
  if name != "protocol" or len(cell) <= _LONG_PROTOCOL:
    return cell
  return notes.setdefault(cell, f"[{len(notes) + 1}]")


def _cell(value: object) -> str:
  if value is None or value == "":
    return "-"
  if isinstance(value, tuple):
    return " .. ".join(_cell(part) for part in value)
  return f"{value:.4g}" if isinstance(value, float) else str(value)
