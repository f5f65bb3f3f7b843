"""Scores together with everything they depend on. A number without its protocol is useless: see `Score`."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence

from vidgen_jax.files import append_text

_IN_EVERY_ROW = ("subject", "metric", "value", "unit")
_SETTINGS = (
  "weights",
  "batch_norm",
  "truncation",
  "seed",
  "step",
  "clip",
  "conditioning_indices",
  "extractor",
  "extractor_hash",
)
_LONG_PROTOCOL = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """One number and what it was computed on. None means that the field does not apply (a baseline has no EMA)."""

  metric: str
  """"psnr", "ssim", "centroid_error", "fvd", ..."""
  value: float
  subject: str
  """What was scored: "model", or a baseline's name: "copy_last"."""
  protocol: str
  """How frames, clips and samples were brought to one number: "frame_mean", "frame_mean, best of 10", ..."""
  split: str
  num_clips: int
  """Real clips."""
  unit: str = ""
  num_generated: int | None = None
  """Generated clips, where they are not `num_clips` times `samples`."""
  samples: int = 1
  """l, the samples drawn for each clip."""
  weights: str | None = None
  """"ema" or "raw"."""
  batch_norm: str | None = None
  """"standing" or "batch"."""
  truncation: float | None = None
  """Half-width at which the latent is cut, in standard deviations."""
  seed: int | None = None
  step: int | None = None
  """Train step of the checkpoint."""
  clip: str | None = None
  """Frames x height x width x channels of the clips as they were given."""
  conditioning_indices: str | None = None
  """0-based indices of the frames that were given, such as "0 3 6"; None where there were none."""
  extractor: str | None = None
  """The feature network of a metric that has one."""
  extractor_hash: str | None = None
  """Hash of its weights."""
  interval: tuple[float, float] | None = None
  """95 % confidence interval of `value`."""

  def to_json(self) -> str:
    """One line of JSON with every field; a value that is not finite becomes null, which JSON can say."""
    fields = dataclasses.asdict(self)
    if not math.isfinite(self.value):
      fields["value"] = None
    return json.dumps(fields, allow_nan=False)


def frames_text(frames: Sequence[int]) -> str | None:
  """Frames as `Score.conditioning_indices` has them."""
  return " ".join(map(str, frames)) or None


class ScoreTable:
  """Collects scores, shows them to people and writes them for programs."""

  def __init__(self, scores: Iterable[Score] = ()):
    self._scores = list(scores)

  @property
  def scores(self) -> tuple[Score, ...]:
    """The scores in the order they came."""
    return tuple(self._scores)

  def add(self, score: Score) -> None:
    """Appends one score."""
    self._scores.append(score)

  def text(self) -> str:
    """An aligned table, one row per score.

    Fields that all scores share stand once, in the lines above the table, as do settings that have one value where they
    apply at all; fields that apply to none are left out. Long protocols stand below, numbered.
    """
    if not self._scores:
      return "(no scores)"
    head, columns = [], list(_IN_EVERY_ROW)
    for field in dataclasses.fields(Score):
      if field.name in _IN_EVERY_ROW:
        continue
      cells = [_cell(getattr(score, field.name)) for score in self._scores]
      known = set(cells) - {"-"}
      if len(known) == 1 and ("-" not in cells or field.name in _SETTINGS):
        head.append(f"{field.name}: {known.pop()}{self._where(field.name)}")
      elif known:
        columns.append(field.name)
    notes: dict[str, str] = {}
    rows = [columns, *([self._text_of(score, name, notes) for name in columns] for score in self._scores)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    numeric = [not isinstance(getattr(self._scores[0], name), str) for name in columns]
    lines = ["  ".join(_pad(*cell) for cell in zip(row, widths, numeric, strict=True)).rstrip() for row in rows]
    rule = "  ".join("-" * width for width in widths)
    foot = [f"{mark} {text}" for text, mark in notes.items()]
    parts = [head, [lines[0], rule, *lines[1:]], foot]
    return "\n\n".join("\n".join(part) for part in parts if part)

  def _where(self, name: str) -> str:
    """Of which scores a field of the head holds, where not of all."""
    subjects = list(dict.fromkeys(s.subject for s in self._scores if _cell(getattr(s, name)) != "-"))
    if all(_cell(getattr(score, name)) != "-" for score in self._scores):
      return ""
    return f" ({subjects[0]})" if len(subjects) == 1 else " (where it applies)"

  @staticmethod
  def _text_of(score: Score, name: str, notes: dict[str, str]) -> str:
    cell = _cell(getattr(score, name))
    if name != "protocol" or len(cell) <= _LONG_PROTOCOL:
      return cell
    return notes.setdefault(cell, f"[{len(notes) + 1}]")

  def write_json_lines(self, path: str | os.PathLike[str]) -> None:
    """Appends every score to a file, one JSON object a line.

    Raises:
      UserError: if the file cannot be written.
    """
    append_text(path, "".join(score.to_json() + "\n" for score in self._scores))


def _cell(value: object) -> str:
  if value is None or value == "":
    return "-"
  if isinstance(value, tuple):
    return " .. ".join(_cell(part) for part in value)
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pad(cell: str, width: int, numeric: bool) -> str:
  return cell.rjust(width) if numeric else cell.ljust(width)
