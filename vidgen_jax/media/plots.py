"""Plots of numbers: panels of lines as one PNG, drawn with matplotlib (extra [plot])."""

import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write

COLUMNS = 3
"""Panels beside each other, at most."""


@dataclass(frozen=True, kw_only=True)
class Line:
  """One line of a panel.

  Attributes:
    x: n places.
    y: n values; NaN leaves a gap.
    label: in the legend; '' keeps it out.
    shade: its place in [0, 1] on a scale of colours from dark to light, for lines that have an order; None draws in
      black.
    style: of matplotlib: '-', '--', ':', or '' for the markers alone.
    marker: of matplotlib, or ''.
    notes: n short texts beside the points; () for none.
  """

  x: Sequence[float]
  y: Sequence[float]
  label: str = ""
  shade: float | None = None
  style: str = "-"
  marker: str = ""
  notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
  """Lines over one pair of axes.

  Attributes:
    title: above it.
    x_label: below it.
    y_label: beside it.
    lines: drawn in this order.
    ticks: texts below the x axis at 0, 1, 2, ..., for places that are no numbers; () for numbers.
    whole_ticks: whether the ticks of the x axis are whole numbers only.
  """

  title: str
  x_label: str
  y_label: str
  lines: Sequence[Line]
  ticks: Sequence[str] = ()
  whole_ticks: bool = False


def require_matplotlib(what: str, *, remedy: str = "") -> None:
  """Checks that plots can be drawn, before minutes are spent on what they shall show.

  Args:
    what: needs it, for the message: 'best_of_ssim'.
    remedy: how to do without it, for the message; '' if there is no way.

  Raises:
    UserError: if matplotlib is not installed.
  """
  if importlib.util.find_spec("matplotlib") is None:
    otherwise = f", or {remedy}" if remedy else ""
    raise UserError(f"{what} needs matplotlib: pip install 'vidgen-jax[plot]'{otherwise}")


def draw_panels(path: str | os.PathLike[str], panels: Sequence[Panel], *, common_legend: bool = False) -> None:
  """Draws panels beside each other, at most `COLUMNS` in a row, as a PNG.

  Args:
    path: the .png file; its folder is created.
    panels: at least one.
    common_legend: one legend to the right, of the first panel's lines, in place of one in each panel.

  Raises:
    UserError: if matplotlib is not installed, or the disk does not allow it.
  """
  require_matplotlib(os.fspath(path))
  from matplotlib.figure import Figure  # The Figure class alone: pyplot would keep global state and look for a screen.

  columns = min(COLUMNS, len(panels))
  rows = math.ceil(len(panels) / columns)
  figure = Figure(figsize=(4.4 * columns + 1.4 * common_legend, 3.4 * rows), layout="constrained")
  for place, panel in enumerate(panels, start=1):
    axes = figure.add_subplot(rows, columns, place)
    _draw_panel(axes, panel)
    if any(line.label for line in panel.lines):
      if not common_legend:
        axes.legend(fontsize="small")
      elif place == 1:
        figure.legend(loc="outside right center", fontsize="small")
  with atomic_write(path) as temporary:
    figure.savefig(temporary, format="png", dpi=120)


def _draw_panel(axes: Any, panel: Panel) -> None:
  from matplotlib import colormaps
  from matplotlib.ticker import MaxNLocator

  # The light end of the scale is too pale on white.
  scale = colormaps["viridis"]
  for line in panel.lines:
    colour = "black" if line.shade is None else scale(0.88 * line.shade)
    axes.plot(
      line.x, line.y, label=line.label or None, color=colour, linestyle=line.style, marker=line.marker, linewidth=1.3
    )
    for x, y, note in zip(line.x, line.y, line.notes or [""] * len(line.x), strict=True):
      axes.annotate(note, (x, y), xytext=(5, 4), textcoords="offset points", fontsize="small")
  axes.set_title(panel.title, fontsize="medium")
  axes.set_xlabel(panel.x_label)
  axes.set_ylabel(panel.y_label)
  # Notes stand to the right of their points.
  axes.margins(x=0.16 if any(line.notes for line in panel.lines) else 0.08, y=0.1)
  axes.grid(alpha=0.3)
  if panel.ticks:
    axes.set_xticks(range(len(panel.ticks)), panel.ticks)
  else:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=panel.whole_ticks))
