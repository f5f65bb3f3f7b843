"""Kinetics-400, -600 and -700: clips of about 10 seconds from YouTube.

The owners publish lists with the columns label, youtube_id, time_start and time_end among others: `train.csv`,
`val.csv` (or validate, validation) and `test.csv`, possibly with a prefix, `kinetics_600_train.csv`; the complete ones
of Kinetics-600 end in .txt. The videos, `<youtube_id>_<start>_<end>.mp4` with times of six digits or
`<youtube_id>.mp4`, may be in any folder; most copies lack some. Rows without a label are not used.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vidgen_jax.data.datasets import ListError, SplitRule
from vidgen_jax.data.datasets.published import by_file_name, found, published, read_list
from vidgen_jax.data.listing import Source, SourceFile

_LIST = re.compile(r"(?:.*[_-])?(train|val|validate|validation|test)\.(?:csv|txt)")
_SPLITS = {"train": "train", "val": "validation", "validate": "validation", "validation": "validation", "test": "test"}
_VIDEOS = (".mp4", ".mkv", ".webm")
_COLUMNS = {"youtube_id", "time_start", "time_end"}


class _Row(NamedTuple):
  youtube_id: str
  name: str
  label: str
  split: str


def _list_files(source: Source, rule: str) -> list[SourceFile]:
  del rule  # There is only one.
  stamps = source.stamps()
  # Kinetics-400 has a folder of replacements for damaged videos: the last path of a name is used.
  paths = sorted(stamps, key=lambda path: "replacement" in path)
  videos = {name.rpartition(".")[0]: path for name, path in by_file_name(paths, _VIDEOS).items()}
  rows: dict[str, _Row] = {}
  for row in _rows(source, stamps):
    rows.setdefault(row.name, row)
  times, files = Counter(row.youtube_id for row in rows.values()), []
  for row in rows.values():
    path = videos.get(row.name) or (videos.get(row.youtube_id) if times[row.youtube_id] == 1 else None)
    files.append(found(path, row.name, stamps, class_name=row.label, split=row.split))
  return files


def _rows(source: Source, paths: Iterable[str]) -> Iterator[_Row]:
  """Labelled rows of all lists, the training list first."""
  lists = by_file_name(paths, (".csv", ".txt"))
  named: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
  for name in sorted(lists):
    # The list of a second test set, which the owners held back at first, is not used.
    if (match := _LIST.fullmatch(name.lower())) and "holdout" not in name.lower():
      named[_SPLITS[match[1]]].append(name)
  if not named["train"]:
    raise ListError("has no train.csv")
  for split, names in named.items():
    if len(names) > 1:
      raise ListError(f"has several lists of the split {split}, {' and '.join(names)}; leave the complete one there")
    for name in names:
      yield from _labelled(name, read_list(source, lists, name), split)


def _labelled(name: str, text: str, split: str) -> Iterator[_Row]:
  reader = csv.DictReader(io.StringIO(text))
  if not set(reader.fieldnames or ()) >= _COLUMNS:
    raise ListError(f"has a {name} whose first line lacks one of {', '.join(sorted(_COLUMNS))}")
  for row in reader:
    if not row.get("label"):
      continue
    try:
      start, end = int(row["time_start"]), int(row["time_end"])
    except (TypeError, ValueError) as error:
      raise ListError(f"has a {name} whose line {reader.line_num} has no start or end time") from error
    yield _Row(row["youtube_id"], f"{row['youtube_id']}_{start:06d}_{end:06d}", row["label"], split)


def _register(version: int, publication: str, scripts: str, note: str, *, gigabytes: int, built: int, hours: int):
  published(
    name=f"kinetics{version}",
    title=f"Kinetics-{version} ({publication})",
    # The lists define the number of videos: of the videos that they name, the missing ones are counted.
    split_rules={"owners": SplitRule("owners' lists", {})},
    obtain=(
      f"fetch the videos and the lists with {scripts}_downloader.sh, unpack them with {scripts}_extractor.sh, both of "
      f"github.com/cvdfoundation/kinetics-dataset (about {gigabytes} GB, and as much again while the archives are "
      f"kept), and put them into <data_dir>/downloads/manual/kinetics{version}{note}; a build with --size=64 takes "
      f"about {built} GB, twice that while it runs, and about {hours} hours of one core for videos of 256x340 pixels, "
      "more for larger ones"
    ),
    # TrIVD-GAN-FP, section 4.1. Lossless frames would take more than twice the space.
    fps=25.0,
    encoding="jpeg",
  )(_list_files)


_INCOMPLETE = " (of the lists train.txt and val.txt: train.csv and val.csv are incomplete)"
_register(400, "Kay et al. 2017", "k400", "", gigabytes=456, built=400, hours=25)
_register(600, "Carreira et al. 2018", "k600", _INCOMPLETE, gigabytes=779, built=700, hours=40)
_register(700, "Carreira et al. 2019", "k700_2020", "", gigabytes=710, built=850, hours=50)
