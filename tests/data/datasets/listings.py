"""Lists and builds published data sets, for tests."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_jax import cli
from vidgen_jax.data import records, transforms
from vidgen_jax.data.datasets import all_datasets
from vidgen_jax.data.listing import MISSING, Source, SourceFile

PUBLISHED = {name: dataset for name, dataset in all_datasets().items() if dataset.list_files is not None}


def listed(name: str, root: Path, rule: str = "") -> list[SourceFile]:
  """Videos of a split rule, by default the first."""
  with Source(root, nested=True) as source:
    return PUBLISHED[name].files(source, rule or next(iter(PUBLISHED[name].split_rules)))


def names_by_split(files: Iterable[SourceFile]) -> dict[str, set[str]]:
  """Names of the videos by split."""
  names = defaultdict(set)
  for file in files:
    names[file.split].add(file.name)
  return dict(names)


def clips_by_split(files: Iterable[SourceFile]) -> dict[str, int]:
  """Number of clips by split."""
  counts = Counter()
  for file in files:
    counts[file.split] += 1 if file.clips is None else file.clips[1] - file.clips[0]
  return dict(counts)


def missing(files: Iterable[SourceFile]) -> set[str]:
  """Names of the missing videos."""
  return {file.name for file in files if file.stamp == MISSING}


def build(name: str, root: Path, *flags: str) -> tuple[records.DatasetInfo, Mapping[str, Any]]:
  """Builds a data set next to its source, which may be incomplete; returns its info and manifest."""
  words = [f"--source={root}", f"--data_dir={root.parent / 'built'}", "--encoding=png", "--max_skipped=1"]
  words += ["--num_workers=1", *flags]
  assert cli.dispatch(["data", "build", name, *words]) == 0
  info = records.load_info(name, root.parent / "built")
  manifest = json.loads((records.dataset_directory(name, root.parent / "built") / "manifest.json").read_text())
  return info, manifest


def levels(info: records.DatasetInfo, split: str) -> list[list[int]]:
  """Grey level of the centre of every frame of every clip, sorted."""
  source = records.open_split(info, split)
  clips = (transforms.decode_squares(source[i]["frames"], resolution=8)[:, 4, 4, 0] for i in range(len(source)))
  return sorted(np.asarray(clip).astype(int).tolist() for clip in clips)
