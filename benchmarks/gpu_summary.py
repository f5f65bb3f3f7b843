"""Results of `gpu_kit.sh`: `record` writes a section's file, `table` prints all figures and writes tables.md.

Commands:
  python benchmarks/gpu_summary.py record SECTION PART... --work=DIR --out=DIR
  python benchmarks/gpu_summary.py table --out=DIR
"""

import argparse
import collections
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vidgen_jax.bench.cost_estimate import published_peak
from vidgen_jax.bench.measurements import significant
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
_STOPPED = (124, 137, 143)  # by `timeout`
_PREEMPTED = 75  # a training that saved its state at its time limit
_LOG_LINES = 20

Results = Mapping[str, Mapping[str, Any]]
"""Parts by 'section.part'."""


class Table(NamedTuple):
  """A table of text."""

  head: Sequence[str]
  rows: Sequence[Sequence[str]]


def read_part(work: Path, key: str) -> dict[str, Any]:
  """What `gpu_kit.sh` left of one part: KEY.part, KEY.log and the figures in KEY.jsonl, if the command wrote them."""
  status, seconds, limit, command = (work / f"{key}.part").read_text().splitlines()
  log, figures = work / f"{key}.log", work / f"{key}.jsonl"
  lines = log.read_text(errors="replace").splitlines() if log.exists() else []
  code = int(status) if status.isdecimal() else None
  error = None
  if code is None:
    error = status
  elif code in _STOPPED:
    error = f"stopped at its time limit of {limit} s"
  elif code not in (0, _PREEMPTED):
    error = f"exit status {code}: {lines[-1] if lines else 'no output'}"
  return {
    "command": command,
    "rc": code,
    "seconds": int(seconds),
    "error": error,
    "figures": _json_lines(figures) if error is None else [],
    "log": lines[-_LOG_LINES:],
  }


def record(section: str, names: Sequence[str], *, work: Path, out: Path) -> None:
  """Writes SECTION.json with all parts; for 'training' also scores.json's rows, curve.png and sheet.png."""
  parts = {f"{section}.{name}": read_part(work, f"{section}.{name}") for name in names}
  if section == "training":
    _add_training(parts, work / "run", out)
  with atomic_write(out / f"{section}.json") as temporary:
    temporary.write_text(json.dumps(parts, indent=1) + "\n")


def _add_training(parts: dict[str, dict[str, Any]], run: Path, out: Path) -> None:
  metrics = _json_lines(run / "metrics.jsonl")
  parts["training.ours"]["figures"] = metrics
  parts["training.scores"]["figures"] = _json_lines(run / "scores.jsonl")
  for sheet in sorted((run / "evaluation").glob("*.png")):
    shutil.copy(sheet, out / "sheet.png")
  names = sorted({name for row in metrics for name in row if name.startswith("eval/") or name.endswith("/loss")})
  try:
    with plot_file(out / "curve.png", panels=len(names)) as all_axes:
      for axes, name in zip(all_axes, names, strict=True):
        axes.plot(*zip(*((row["step"], row[name]) for row in metrics if name in row), strict=True))
        axes.set(title=name, xlabel="step")
  except UserError as error:
    parts["training.ours"]["curve"] = str(error)


def _json_lines(path: Path) -> list[dict[str, Any]]:
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tables(results: Results) -> list[Table]:
  """Tables of speed, of the training and of convolutions, and of the parts without figures."""
  rows = [row for section, title in _STEPS.items() for row in _step_rows(results, section, title)]
  alone = [_of_framework(_part(results, "i3d.torch"), name).get("clips_per_s") for name in ("flax", "torch")]
  ours = _named(_part(results, "i3d.ours"), "clips")
  rows += [
    ("I3D with input and resizing", _cell(ours, "clips/s"), NOT_MEASURED, NOT_MEASURED),
    ("I3D alone, float32", _cell(alone[0], "clips/s"), NOT_MEASURED, _cell(alone[1], "clips/s")),
  ]
  missing = [(key, part["error"]) for key, part in results.items() if part["error"]]
  where = next((f"{row['device']}, jax {row['jax']}" for row in _part(results, "trivd.ours") if "jax" in row), "")
  head = (where, "this package", "PyTorch, compiled", "PyTorch, eager")
  return [Table(head, rows), _training(results), _convolutions(results), Table(("part", "no figures because"), missing)]


def _step_rows(results: Results, section: str, title: str) -> list[tuple[str, ...]]:
  ours = _part(results, f"{section}.ours")
  others = [_torch_step(_part(results, f"{section}.{name}")) for name in ("torch", "eager")]
  return [
    (f"{title}: {name}", _cell(_named(ours, figure), unit, scale), *(_cell(row.get(figure), unit) for row in others))
    for name, figure, unit, scale in (
      ("step", "step, median", "ms", 1),
      ("real clips", "clips consumed", "clips/s", 1),
      ("MFU", "MFU", "%", 1),
      ("peak memory", "peak memory", "GiB", 1 / 1024),
      ("compilation, cold", "compilation, cold", "s", 1),
      ("compilation, from the cache", "compilation, from cache", "s", 1),
    )
  ]


def _torch_step(figures: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
  """The figures of `torch_step.py` under the names of `vidgen bench`."""
  row = _of_framework(figures, "torch")
  if not row:
    return {}
  peak, memory = published_peak(row["device_kind"]), row["peak_bytes"]
  return {
    "step, median": row["step_ms"],
    "clips consumed": row["clips_per_s"],
    "MFU": 100 * row["flops"] / (row["step_ms"] / 1e3 * peak) if peak else None,
    "peak memory": memory / 2**30 if memory else None,
    "compilation, cold": row["compile_s"],
  }


def _training(results: Results) -> Table:
  last = max((row["step"] for row in _part(results, "training.ours")), default=None)
  scores = _part(results, "training.scores")
  subjects = list(dict.fromkeys(row["subject"] for row in scores))
  values = {(row["metric"], row["subject"]): row["value"] for row in scores if "_frame_" not in row["metric"]}
  names = list(dict.fromkeys(metric for metric, _ in values))
  rows = [(name, *(_cell(values.get((name, subject))) for subject in subjects)) for name in names]
  return Table((f"training, {NOT_MEASURED if last is None else last} steps", *subjects), rows)


def _convolutions(results: Results) -> Table:
  forms = ("native", "stacked", "matmul")
  rows = []
  for row in _part(results, "convolutions.ours"):
    if "ms" in row:
      shape = f"{row['video']} * {row['kernel']} / {row['strides']}"
      rows.append(
        (shape, row["dtype"], row["program"], *(_cell(row["ms"].get(form)) for form in forms), row["fastest"])
      )
  return Table(("convolution", "dtype", "program", *(f"{form}, ms" for form in forms), "fastest"), rows)


def _part(results: Results, key: str) -> Sequence[Mapping[str, Any]]:
  return results.get(key, {}).get("figures", [])


def _named(figures: Sequence[Mapping[str, Any]], name: str) -> float | None:
  return next((row["value"] for row in figures if row.get("name") == name), None)


def _of_framework(figures: Sequence[Mapping[str, Any]], framework: str) -> Mapping[str, Any]:
  return next((row for row in figures if row.get("framework") == framework), {})


def _cell(value: float | None, unit: str = "", scale: float = 1) -> str:
  return NOT_MEASURED if value is None else f"{significant(scale * value)} {unit}".rstrip()


def layout(table: Table, *, markdown: bool) -> str:
  """A table as aligned text, or in Markdown; its head alone says that it has no rows."""
  lines = [list(table.head), *map(list, table.rows)] if table.rows else [[*table.head[:1], NOT_MEASURED]]
  if markdown:
    rule = ["---"] * len(lines[0])
    return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


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
    return
  results = collections.ChainMap(*(json.loads(path.read_text()) for path in sorted(flags.out.glob("*.json"))))
  found = tables(results)
  with atomic_write(flags.out / "tables.md") as temporary:
    temporary.write_text("\n".join(layout(table, markdown=True) for table in found))
  sys.stdout.write("\n".join(layout(table, markdown=False) for table in found))


if __name__ == "__main__":
  main()
