"""Figures of a benchmark: goals, tables and files."""

import dataclasses
import json
import math
import sys
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
    name: name of the figure.
    value: value in `unit`; None if it cannot be measured on this machine, which `note` explains.
    unit: unit; '' for ratios.
    at_most: goal, if the value should not be above it.
    at_least: goal, if the value should not be below it.
    note: how the value was obtained.
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
    least = -math.inf if self.at_least is None else self.at_least
    return least <= self.value <= (math.inf if self.at_most is None else self.at_most)

  def as_row(self) -> dict[str, Any]:
    """All fields and `met`, for JSON."""
    return dataclasses.asdict(self) | {"met": self.met}


@dataclass(frozen=True, kw_only=True)
class Report:
  """Everything that a benchmark reports.

  Attributes:
    head: what was measured, and where.
    rows: figures, one JSON object each.
    text: the figures as a table for people.
  """

  head: Mapping[str, Any]
  rows: Sequence[Mapping[str, Any]]
  text: str

  @classmethod
  def of(cls, head: Mapping[str, Any], measurements: Sequence[Measurement]) -> "Report":
    """A report of measurements alone."""
    return cls(head=head, rows=[m.as_row() for m in measurements], text=table_text(measurements))


def describe(name: str, **settings: Any) -> dict[str, Any]:
  """The head of a report: the measured experiment or network, this machine's devices and the settings."""
  device, devices = jax.devices()[0].device_kind, jax.device_count()
  return {"experiment": name, "device": device, "devices": devices, "jax": jax.__version__, **settings}


def head_text(head: Mapping[str, Any]) -> str:
  """The head of a report as one line."""
  return ", ".join(f"{name} {value}" for name, value in head.items())


def table_text(measurements: Sequence[Measurement]) -> str:
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


def write_report(report: Report, out: Path | None) -> None:
  """Prints a report, and writes head and rows to a file, one JSON object per line; UserError if it fails."""
  sys.stdout.write(f"{head_text(report.head)}\n\n{report.text}")
  if out is not None:
    with disk_errors(out), atomic_write(out) as temporary:
      temporary.write_text("".join(json.dumps(row) + "\n" for row in (report.head, *report.rows)))
