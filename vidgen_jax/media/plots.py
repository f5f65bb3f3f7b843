"""Line plots as PNG files, drawn with matplotlib (extra [plot])."""

import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write


@dataclass(frozen=True, kw_only=True)
class Line:
  """One line of a panel.

  Attributes:
    x: n positions.
    y: n values; NaN leaves a gap.
    label: text in the legend; '' for none.
    shade: position in [0, 1] on a colour scale from dark to light, for lines with an order; None for black.
    style: matplotlib line style: '-', '--', ':', or '' for markers only.
    marker: matplotlib marker, or ''.
    notes: n short texts next to the points; () for none.
  """

  x: Sequence[float] | np.ndarray
  y: Sequence[float] | np.ndarray
  label: str = ""
  shade: float | None = None
  style: str = "-"
  marker: str = ""
  notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
  """Lines in one coordinate system.

  `ticks` are labels of the x axis at 0, 1, 2, ..., for categories; `integer_ticks` keeps automatic ticks at integers.
  """

  title: str
  x_label: str
  y_label: str
  lines: Sequence[Line]
  ticks: Sequence[str] = ()
  integer_ticks: bool = False


def require_matplotlib(what: str, *, remedy: str = "") -> None:
  """Raises UserError if matplotlib is not installed; the message contains what needs it and how to do without it."""
  if importlib.util.find_spec("matplotlib") is None:
    otherwise = f", or {remedy}" if remedy else ""
    raise UserError(f"{what} needs matplotlib: pip install 'vidgen-jax[plot]'{otherwise}")


def draw_panels(path: str | os.PathLike[str], panels: Sequence[Panel], *, common_legend: bool = False) -> None:
  """Draws panels as a PNG, at most three in a row; creates the folder.

  Args:
    path: the .png file.
    panels: at least one.
    common_legend: whether the first panel's legend is at the right of all panels, instead of one in each panel.

  Raises:
    UserError: matplotlib is not installed, or the file cannot be written.
  """
  require_matplotlib(os.fspath(path))
  from matplotlib.figure import Figure  # Not pyplot, which keeps global state and looks for a display.

  columns = min(3, len(panels))
  rows = math.ceil(len(panels) / columns)
  figure = Figure(figsize=(4.4 * columns + 1.4 * common_legend, 3.4 * rows), layout="constrained")
  for number, panel in enumerate(panels, start=1):
    axes = figure.add_subplot(rows, columns, number)
    _draw_panel(axes, panel)
    if any(line.label for line in panel.lines):
      if not common_legend:
        axes.legend(fontsize="small")
      elif number == 1:
        figure.legend(loc="outside right center", fontsize="small")
  with atomic_write(path) as temporary:
    figure.savefig(temporary, format="png", dpi=120)


def _draw_panel(axes: Any, panel: Panel) -> None:
  from matplotlib import colormaps
  from matplotlib.ticker import MaxNLocator

  # Without its light end, which is too pale on white.
  scale = colormaps["viridis"]
  for line in panel.lines:
    colour = "black" if line.shade is None else scale(0.88 * line.shade)
    axes.plot(
      line.x, line.y, label=line.label or None, color=colour, linestyle=line.style, marker=line.marker, linewidth=1.3
    )
    for x, y, note in zip(line.x, line.y, line.notes, strict=True) if line.notes else ():
      axes.annotate(note, (x, y), xytext=(5, 4), textcoords="offset points", fontsize="small")
  axes.set_title(panel.title, fontsize="medium")
  axes.set_xlabel(panel.x_label)
  axes.set_ylabel(panel.y_label)
  # Notes are to the right of their points.
  axes.margins(x=0.16 if any(line.notes for line in panel.lines) else 0.08, y=0.1)
  axes.grid(alpha=0.3)
  if panel.ticks:
    axes.set_xticks(range(len(panel.ticks)), panel.ticks)
  else:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=panel.integer_ticks))
