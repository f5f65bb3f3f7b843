"""Curves of a run's metrics, read from its `metrics.jsonl` and drawn with matplotlib (extra [plot])."""

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from vidgen_jax.buckets import read_text, user_path
from vidgen_jax.errors import UserError
from vidgen_jax.media.plots import Line, Panel, draw_panels, require_matplotlib


def read_metrics(path: str | os.PathLike[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Reads a file written by `JsonlWriter`.

  Args:
    path: a `metrics.jsonl`. An incomplete last line (the run continues, or was killed) is ignored.

  Returns:
    By metric: its steps int64[n] and values float64[n], ordered by step, without values that are not finite.

  Raises:
    UserError: the file is missing, or another line is not a JSON object with a step.
  """
  path = user_path(path)
  try:
    text = read_text(path)
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}; give the metrics.jsonl of a run") from error
  if text is None:
    raise UserError(f"{path} cannot be read: there is no such file; give the metrics.jsonl of a run")
  points: dict[str, list[tuple[int, float]]] = {}
  for number, line in enumerate(text.split("\n")[:-1], start=1):  # The part after the last newline is incomplete.
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
    steps, values = zip(*sorted(pairs, key=lambda pair: pair[0]), strict=True)
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
    names: metrics to draw, in this order; None draws all, sorted by name.
    baselines: values by metric and label, drawn as dashed lines: {"psnr": {"copy last": 24.9}}.

  Raises:
    UserError: matplotlib is not installed, the file has no metrics or lacks a named one, or the image cannot be
      written.
  """
  require_matplotlib("drawing curves")
  curves = read_metrics(metrics_path)
  names = sorted(curves) if names is None else names
  if absent := [name for name in names if name not in curves]:
    raise UserError(f"{os.fspath(metrics_path)} has no metric {absent[0]!r}; it has {', '.join(sorted(curves))}")
  if not names:
    raise UserError(f"{os.fspath(metrics_path)} has no metrics yet; train some steps first")
  panels = []
  for name in names:
    steps, values = curves[name]
    constants = (baselines or {}).get(name, {})
    lines = [Line(x=steps, y=values, marker="." if len(steps) < 50 else "")]
    for (label, value), shade in zip(constants.items(), np.linspace(0, 1, len(constants)), strict=True):
      lines.append(Line(x=steps[[0, -1]], y=[value, value], label=label, style="--", shade=float(shade)))
    panels.append(Panel(title=name, x_label="step", y_label="", lines=lines))
  draw_panels(image_path, panels)
