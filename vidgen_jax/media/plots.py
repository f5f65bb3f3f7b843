"""Line plots as PNG files, drawn with matplotlib (extra [plot])."""

import contextlib
import importlib.util
import os
from collections.abc import Generator
from typing import Any

from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write


def require_matplotlib(what: str, *, remedy: str = "") -> None:
  """Raises UserError if matplotlib is not installed; the message contains what needs it and how to do without it."""
  if importlib.util.find_spec("matplotlib") is None:
    otherwise = f", or {remedy}" if remedy else ""
    raise UserError(f"{what} needs matplotlib: pip install 'vidgen-jax[plot]'{otherwise}")


def shade(position: float) -> Any:
  """A colour for lines with an order, from dark (0) to light (1)."""
  from matplotlib import colormaps

  # Without its light end, which is too pale on white.
  return colormaps["viridis"](0.88 * position)


@contextlib.contextmanager
def plot_file(path: str | os.PathLike[str], *, panels: int, common_legend: bool = False) -> Generator[list[Any]]:
  """Yields the matplotlib `Axes` of the panels of a PNG, at most three in a row; writes it after the block.

  Lines are black by default. Panels whose lines have labels get a legend; with `common_legend`, that of the first panel
  is at the right of all panels instead.

  Raises:
    UserError: matplotlib is not installed, or the file cannot be written.
  """
  require_matplotlib(os.fspath(path))
  from matplotlib.figure import Figure  # Not pyplot, which keeps global state and looks for a display.

  columns, rows = min(3, panels), -(-panels // 3)
  figure = Figure(figsize=(4.4 * columns + 1.4 * common_legend, 3.4 * rows), layout="constrained")
  all_axes = [figure.add_subplot(rows, columns, number + 1) for number in range(panels)]
  for axes in all_axes:
    axes.set_prop_cycle(color=["black"], linewidth=[1.3])
    axes.locator_params(axis="x", nbins=6)
    axes.margins(x=0.08, y=0.1)
    axes.grid(alpha=0.3)
  yield all_axes
  for axes in all_axes:
    axes.title.set_fontsize("medium")
    if not common_legend and axes.get_legend_handles_labels()[0]:
      axes.legend(fontsize="small")
  if common_legend:
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
  with atomic_write(path) as temporary:
    figure.savefig(temporary, format="png", dpi=120)
