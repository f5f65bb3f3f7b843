"""Curves of a run's metrics, read from its `metrics.jsonl` and drawn with matplotlib (extra [plot])."""

import json
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from vidgen_jax.buckets import read_text, user_path
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write
from vidgen_jax.media.plots import require_matplotlib

_COLUMNS = 3


def read_metrics(path: str | os.PathLike[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Reads the file that `JsonlWriter` writes.

  Args:
    path: the file. A last line that is not whole (the run goes on, or was killed) is passed over.

  Returns:
    By metric: its steps int64[n] and values float64[n], ordered by step; values that were not finite are left out.

  Raises:
    UserError: if the file is missing or a line in its middle is no JSON object with a step.
  """
  path = user_path(path)
  try:
    text = read_text(path)
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}; give the metrics.jsonl of a run") from error
  if text is None:
    raise UserError(f"{path} cannot be read: there is no such file; give the metrics.jsonl of a run")
  lines = text.split("\n")
  points: dict[str, list[tuple[int, float]]] = {}
  for number, line in enumerate(lines[:-1], start=1):  # What follows the last line break is empty or not whole.
    try:
      fields = json.loads(line)
      step = int(fields.pop("step"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise UserError(f"{path}, line {number}: not a line of metrics; delete it or give another file") from error
    fields.pop("time", None)
    for name, value in fields.items():
      if isinstance(value, int | float):
        points.setdefault(name, []).append((step, float(value)))
  curves = {}
  for name, pairs in points.items():
    pairs.sort(key=lambda pair: pair[0])
    steps, values = zip(*pairs, strict=True)
    curves[name] = (np.array(steps, np.int64), np.array(values, np.float64))
  return curves


def draw_curves(
  metrics_path: str | os.PathLike[str],
  image_path: str | os.PathLike[str],
  *,
  names: Sequence[str] | None = None,
  baselines: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
  """Draws one panel per metric over steps, as a PNG.

  Args:
    metrics_path: a `metrics.jsonl`.
    image_path: the .png file; its folder is created.
    names: the metrics to draw, in this order; None draws all, sorted by name.
    baselines: by metric, values by label, drawn as dashed lines: {"psnr": {"copy last": 24.9}}.

  Raises:
    UserError: if matplotlib is not installed, the file holds no metrics or not a named one, or the disk does not allow
      it.
  """
  require_matplotlib("drawing curves")
  from matplotlib.figure import Figure  # The Figure class alone: pyplot would keep global state and look for a screen.

  curves = read_metrics(metrics_path)
  names = sorted(curves) if names is None else list(names)
  if absent := [name for name in names if name not in curves]:
    raise UserError(f"{os.fspath(metrics_path)} has no metric {absent[0]!r}; it has {', '.join(sorted(curves))}")
  if not names:
    raise UserError(f"{os.fspath(metrics_path)} holds no metrics yet; train some steps first")
  columns = min(_COLUMNS, len(names))
  rows = math.ceil(len(names) / columns)
  figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
  for place, name in enumerate(names, start=1):
    axes = figure.add_subplot(rows, columns, place)
    steps, values = curves[name]
    axes.plot(steps, values, marker="." if len(steps) < 50 else "", linewidth=1.2)
    for shade, (label, value) in enumerate((baselines or {}).get(name, {}).items(), start=1):
      axes.axhline(value, linestyle="--", linewidth=1, color=f"C{shade}", label=label)
    if name in (baselines or {}):
      axes.legend(fontsize="small")
    axes.set_title(name, fontsize="medium")
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
  with atomic_write(image_path) as temporary:
    figure.savefig(temporary, format="png", dpi=120)
