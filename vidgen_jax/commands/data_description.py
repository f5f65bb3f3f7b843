"""What `vidgen data list` and `vidgen data inspect` print about built data sets."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vidgen_jax.data import records
from vidgen_jax.errors import UserError


def list_datasets(data_dir: str | Path) -> None:
  """Prints a table of all data sets in a folder, and the reason for those that are damaged."""
  rows = [("name", "clips", "size", "fps", "classes", "MB", "splits", "folder")]
  damaged = []
  for name in records.built_names(data_dir):
    try:
      rows.append(_row(records.load_info(name, data_dir)))
    except UserError as error:
      damaged.append(f"{error}\n")
  folder = Path(data_dir).expanduser()
  if len(rows) == 1 and not damaged:
    sys.stdout.write(f"no data sets in {folder}; see `vidgen data build`, or pass --data_dir\n")
    return
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  for row in rows:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    sys.stdout.write("  ".join(cells).rstrip() + "\n")
  sys.stdout.writelines(damaged)


def _row(info: records.DatasetInfo) -> tuple[str, ...]:
  clips = info.num_clips
  size = "?"
  if (split := next((split for split, count in clips.items() if count), None)) is not None:
    first = records.open_split(info, split)[0]
    several = len({(entry["width"], entry["height"]) for entry in info.manifest["sources"] if "width" in entry}) > 1
    size = f"{first['width']}x{first['height']}{', ...' if several else ''}"
  megabytes = sum(facts["bytes"] for facts in info.manifest.get("files", {}).values()) / 1e6
  splits = ", ".join(f"{split} {count}" for split, count in clips.items())
  facts = (size, rates_text(info.fps), str(len(info.class_names)), f"{megabytes:.1f}", splits)
  return (info.name, str(sum(clips.values())), *facts, str(info.directory))


def rates_text(rates: Sequence[float]) -> str:
  """Frames per second: all of a few, or the lowest and the highest."""
  words = [f"{rate:g}" if rate else "unknown" for rate in rates]
  return ", ".join(words) if len(words) < 6 else f"{words[0]} to {words[-1]}"


def describe(info: records.DatasetInfo) -> None:
  """Prints splits, classes, frame rates, and what happened to the source files."""
  lines = [f"{info.name}: {info.directory}"]
  for split, labels in info.labels.items():
    lengths = info.num_frames[split]
    counts = np.bincount(labels, minlength=len(info.class_names))
    classes = ", ".join(f"{name} {count}" for name, count in zip(info.class_names, counts, strict=True))
    lines.append(f"  {split}: {len(labels)} clips of {lengths.min()}..{lengths.max()} frames ({classes})")
  sources = info.manifest.get("source_fps", info.fps)
  resampled = "" if tuple(sources) == info.fps else f" (of the sources: {rates_text(sources)})"
  lines.append(f"  frames per second: {rates_text(info.fps)}{resampled}")
  lines.append(f"  encoding: {'JPEG, which is lossy' if info.is_lossy else 'PNG'}")
  sys.stdout.writelines(f"{line}\n" for line in [*lines, *_source_lines(info)])


def _source_lines(info: records.DatasetInfo) -> list[str]:
  """Sizes, conversions, variable rates and damage of the source files, with their numbers."""
  # A video that is divided in time has an entry for each split.
  entries = list({entry["source"]: entry for entry in info.manifest["sources"]}.values())
  used = [entry for entry in entries if entry["status"] == "used"]
  lines = []
  if sizes := Counter(f"{entry['width']}x{entry['height']}" for entry in used if "width" in entry):
    lines.append(f"  size of the sources: {_counts(sizes)}")
  for subject in sorted({subject for entry in used for subject in entry.get("conversions", {})}):
    values = Counter(entry["conversions"][subject] for entry in used if subject in entry.get("conversions", {}))
    lines.append(f"  {subject.replace('_', ' ')}: {values.total()} of {len(used)} source files: {_counts(values)}")
  if variable := [entry for entry in used if entry.get("variable_rate")]:
    lines.append(f"  {len(variable)} source files have a variable frame rate; the first:")
    lines.append(f"    {variable[0]['source']}: {variable[0]['variable_rate']}")
  if skipped := [entry for entry in entries if entry["status"] == "skipped"]:
    lines.append(f"  skipped {len(skipped)} source files, see {info.directory / records.MANIFEST}; the first:")
    lines.append(f"    {skipped[0]['source']}: {skipped[0]['reason']}")
  if damaged := [entry for entry in used if entry.get("damage")]:
    lines.append(f"  {len(damaged)} source files are damaged but usable; the first:")
    lines.append(f"    {damaged[0]['source']}: {damaged[0]['damage']}")
  return lines


def _counts(values: Counter[str]) -> str:
  """The four most frequent values with their numbers."""
  shown = [f"{value} ({count})" for value, count in values.most_common(4)]
  return ", ".join([*shown, f"and {len(values) - 4} more"] if len(values) > 4 else shown)
