"""Figures that a benchmark took: their goals, how they are printed, and how they are written to a file."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from vidgen_jax.files import atomic_write, disk_errors


@dataclass(frozen=True, kw_only=True)
class Measurement:
  """One figure.

  Attributes:
    name: of the figure.
    value: in `unit`; None where this machine cannot tell, which `note` explains.
    unit: '' for ratios.
    at_most: the goal, if the value should not be above it.
    at_least: the goal, if the value should not be below it.
    note: how it was taken.
  """

  name: str
  value: float | None
  unit: str = ""
  at_most: float | None = None
  at_least: float | None = None
  note: str = ""

  @property
  def met(self) -> bool | None:
    """Whether the goal is met; None without a value or a goal."""
    if self.value is None or (self.at_most is None and self.at_least is None):
      return None
    return (self.at_most is None or self.value <= self.at_most) and (
      self.at_least is None or self.value >= self.at_least
    )

  def as_row(self) -> dict[str, Any]:
    """All fields and `met`, for JSON."""
    return dataclasses.asdict(self) | {"met": self.met}


def describe(name: str, **settings: Any) -> dict[str, Any]:
  """What was measured, and on what.

  Args:
    name: of the experiment or the network.
    **settings: of the measurement.
  """
  return {
    "experiment": name,
    "device": jax.devices()[0].device_kind,
    "devices": jax.device_count(),
    "jax": jax.__version__,
    **settings,
  }


def table(measurements: Sequence[Measurement]) -> str:
  """The figures as aligned lines of name, value, unit, goal and note."""
  rows = []
  for m in measurements:
    goals = [f"{sign} {goal:g}" for sign, goal in (("<=", m.at_most), (">=", m.at_least)) if goal is not None]
    verdict = {None: "", True: " met", False: " MISSED"}[m.met]
    value = "unknown" if m.value is None else significant(m.value)
    rows.append((m.name, value, m.unit, " and ".join(goals) + verdict, m.note))
  widths = [max(len(row[i]) for row in rows) for i in range(4)]
  lines = [
    f"{name:<{widths[0]}}  {value:>{widths[1]}} {unit:<{widths[2]}}  {goal:<{widths[3]}}  {note}".rstrip()
    for name, value, unit, goal, note in rows
  ]
  return "\n".join(lines) + "\n"


def significant(value: float) -> str:
  """At least four significant digits, without an exponent."""
  decimals = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
  return f"{value:,.{min(decimals, 6)}f}"


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes one JSON object a line.

  Raises:
    UserError: if the file cannot be written.
  """
  with disk_errors(path), atomic_write(path) as temporary:
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
