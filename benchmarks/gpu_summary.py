"""Results of `gpu_kit.sh`: `record` writes the JSON file of a section, `table` prints all figures as Markdown.

Commands:
  python benchmarks/gpu_summary.py record SECTION PART... --work=DIR --out=DIR
  python benchmarks/gpu_summary.py table --out=DIR
"""

import argparse
import collections
import contextlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vidgen_jax.bench.measurements import significant
from vidgen_jax.bench.settings import published_peak
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write
from vidgen_jax.media.plots import plot_file

NOT_MEASURED = "not measured"
_STEPS = {
  "trivd": "TrIVD-GAN-FP",
  "inbetween": "Inbetweening",
  "mvt": "MVT-TSA",
  "batch512": "TrIVD-GAN-FP, batch 512",
  "batch256": "TrIVD-GAN-FP, batch 256",
}
_STOPPED, _PREEMPTED = (124, 137, 143), 75  # by `timeout`; a training that saved its state at its time limit

Results = Mapping[str, Mapping[str, Any]]
"""Parts by 'section.part'; 'figures' are their rows."""


class Table(NamedTuple):
  """A table of text."""

  head: Sequence[str]
  rows: Sequence[Sequence[str]]


def read_part(work: Path, key: str) -> dict[str, Any]:
  """What `gpu_kit.sh` left of one part: KEY.part, KEY.log and the figures in KEY.jsonl, if the command wrote them."""
  status, seconds, limit, command = (work / f"{key}.part").read_text().splitlines()
  log = work / f"{key}.log"
  lines = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
  code, error = int(status) if status.isdecimal() else None, None
  if code is None:
    error = status
  elif code in _STOPPED and int(seconds) >= int(limit):
    error = f"stopped at its time limit of {limit} s"
  elif code not in (0, _PREEMPTED):
    error = f"exit status {code}: {lines[-1] if lines else 'no output'}"
  figures = [] if error else _json_lines(work / f"{key}.jsonl")
  return {"command": command, "rc": code, "seconds": int(seconds), "error": error, "figures": figures, "log": lines}


def record(section: str, names: Sequence[str], *, work: Path, out: Path) -> None:
  """Writes SECTION.json with all parts; for 'training' also its curve.png and sheet.png."""
  parts = {f"{section}.{name}": read_part(work, f"{section}.{name}") for name in names}
  if section == "training":
    run = work / "run"
    parts["training.ours"]["figures"] = _json_lines(run / "metrics.jsonl")
    parts["training.scores"]["figures"] = _json_lines(run / "scores.jsonl")
    for sheet in (run / "evaluation").glob("*.png"):
      shutil.copy(sheet, out / "sheet.png")
    _draw_curve(parts["training.ours"]["figures"], out / "curve.png")
  with atomic_write(out / f"{section}.json") as temporary:
    temporary.write_text(json.dumps(parts, indent=1) + "\n")


def _draw_curve(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Draws losses and scores by step, if there are any and matplotlib is installed."""
  wanted = ("eval/psnr", "eval/ssim", "eval/centroid_error", "eval/presence", "disc/loss", "gen/loss")
  names = [name for name in wanted if any(row.get(name) is not None for row in metrics)]
  with contextlib.suppress(UserError):
    if names:
      with plot_file(path, panels=len(names)) as all_axes:
        for axes, name in zip(all_axes, names, strict=True):
          points = [(row["step"], row[name]) for row in metrics if row.get(name) is not None]
          axes.plot(*zip(*points, strict=True), marker=".")
          axes.set(title=name, xlabel="step")


def _json_lines(path: Path) -> list[dict[str, Any]]:
  lines = path.read_text().splitlines() if path.exists() else []
  # The last line of a process that was killed may be incomplete.
  return [json.loads(line) for line in lines if line.endswith("}")]


def tables(results: Results) -> list[Table]:
  """Tables of speed, of the training and of convolutions, and of the parts without figures."""
  # A larger batch is measured only if there is time.
  wanted = [name for name in _STEPS if not name.startswith("batch") or f"{name}.ours" in results]
  rows = [row for name in wanted for row in _step_rows(results, name, _STEPS[name])]
  alone = [_find(results, "i3d.torch", "framework", name).get("clips_per_s") for name in ("flax", "torch")]
  clips = _find(results, "i3d.ours", "name", "clips").get("value")
  rows += [
    ("I3D with input and resizing", _cell(clips, "clips/s"), NOT_MEASURED, NOT_MEASURED),
    ("I3D alone, float32", _cell(alone[0], "clips/s"), NOT_MEASURED, _cell(alone[1], "clips/s")),
  ]
  missing = [(key, part["error"]) for key, part in results.items() if part["error"]]
  where = next((row for row in _figures(results, "trivd.ours") if "jax" in row), {})
  described = f"{where['experiment']} etc., {where['device']}, jax {where['jax']}" if where else ""
  head = (described, "this package", "PyTorch, compiled", "PyTorch, eager")
  return [Table(head, rows), _training(results), _convolutions(results), Table(("part", "no figures because"), missing)]


def _step_rows(results: Results, section: str, title: str) -> list[tuple[str, ...]]:
  ours = {row["name"]: row["value"] for row in _figures(results, f"{section}.ours") if "name" in row}
  columns = [ours | {"peak memory": ours["peak memory"] / 1024 if ours.get("peak memory") else None}]
  for compiled in (True, False):
    row = _torch_row(results, section, compiled=compiled)
    peak, memory = published_peak(row.get("device_kind", "")), row.get("peak_bytes")
    columns.append(
      {
        "step, median": row.get("step_ms"),
        "clips consumed": row.get("clips_per_s"),
        "MFU": 100 * row["flops"] / (row["step_ms"] / 1e3 * peak) if peak else None,
        "peak memory": memory / 2**30 if memory else None,
        "compilation, cold": row.get("compile_s") if compiled else None,
      }
    )
  units = {"step, median": "ms", "clips consumed": "clips/s", "MFU": "%", "peak memory": "GiB"}
  units |= {"compilation, cold": "s", "compilation, from cache": "s"}
  return [(f"{title}: {name}", *(_cell(column.get(name), unit) for column in columns)) for name, unit in units.items()]


def _torch_row(results: Results, section: str, *, compiled: bool) -> Mapping[str, Any]:
  for part in (f"{section}.torch", f"{section}.eager"):
    if any(row.get("torch_compile") == compiled for row in _figures(results, part)):
      return _find(results, part, "framework", "torch")
  return {}


def _training(results: Results) -> Table:
  last = max((row["step"] for row in _figures(results, "training.ours")), default=None)
  scores = [row for row in _figures(results, "training.scores") if "_frame_" not in row["metric"]]
  values = {(row["metric"], row["subject"]): row["value"] for row in scores}
  subjects, names = (list(dict.fromkeys(key[i] for key in values)) for i in (1, 0))
  rows = [(name, *(_cell(values.get((name, subject))) for subject in subjects)) for name in names]
  return Table((f"training, {NOT_MEASURED if last is None else last} steps", *subjects), rows)


def _convolutions(results: Results) -> Table:
  forms = ("native", "stacked", "matmul")
  rows = []
  for row in _figures(results, "convolutions.ours"):
    if "ms" in row:
      times = (_cell(row["ms"].get(form)) for form in forms)
      shape = f"{row['video']} * {row['kernel']} / {row['strides']}"
      rows.append((shape, row["dtype"], row["program"], *times, row["fastest"] or NOT_MEASURED))
  return Table(("convolution", "dtype", "program", *(f"{form}, ms" for form in forms), "fastest"), rows)


def _figures(results: Results, key: str) -> Sequence[Mapping[str, Any]]:
  return results.get(key, {}).get("figures", [])


def _find(results: Results, key: str, field: str, value: str) -> Mapping[str, Any]:
  return next((row for row in _figures(results, key) if row.get(field) == value), {})


def _cell(value: float | None, unit: str = "") -> str:
  return NOT_MEASURED if value is None else f"{significant(value)} {unit}".rstrip()


def layout(table: Table) -> str:
  """A table in Markdown; one without rows says so in its head."""
  head = table.head if table.rows else (table.head[0], NOT_MEASURED)
  return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *table.rows))


def main() -> None:
  """Runs one of the two commands."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("command", choices=("record", "table"))
  parser.add_argument("names", nargs="*", help="record: the section and its parts")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--work", type=Path)
  flags = parser.parse_args()
  if flags.command == "record":
    record(flags.names[0], flags.names[1:], work=flags.work, out=flags.out)
  else:
    results = collections.ChainMap(*(json.loads(path.read_text()) for path in sorted(flags.out.glob("*.json"))))
    sys.stdout.write("\n".join(map(layout, tables(results))))


if __name__ == "__main__":
  main()
