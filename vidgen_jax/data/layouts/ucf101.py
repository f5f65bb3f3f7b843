"""UCF-101 (Soomro et al. 2012): three splits by its owners, each of all 13,320 videos, which keep scenes together."""

import hashlib
import math
from collections.abc import Iterable
from pathlib import PurePosixPath

from vidgen_jax.data.layouts.layout import Layout, found
from vidgen_jax.data.listing import Source, SourceFile
from vidgen_jax.errors import UserError

_VALIDATION = "1_validation"
_VALIDATION_SHARE = 0.05
_OBTAIN = (
  "fetch UCF101.rar (6.5 GB) and UCF101TrainTestSplits-RecognitionTask.zip from crcv.ucf.edu/data/UCF101.php, unpack "
  "both and give the folder that holds UCF-101/<class>/*.avi and ucfTrainTestlist/"
)


def _files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  lists = {PurePosixPath(path).name: path for path in stamps if path.endswith(".txt")}
  videos = {"/".join(PurePosixPath(path).parts[-2:]): path for path in stamps if path.endswith(".avi")}
  number = rule.removesuffix("_validation")
  named = {}
  for split in ("train", "test"):
    name = f"{split}list0{number}.txt"
    if name not in lists:
      raise UserError(f"--source {source.path} has no {name}: {_OBTAIN}")
    with source.open(lists[name]) as file:
      lines = file.read().decode().splitlines()
    named |= {line.split()[0]: split for line in lines if line.strip()}
  if rule == _VALIDATION:
    training = [name for name, split in named.items() if split == "train"]
    chosen = _first_by_hash({_group(name) for name in training})
    named |= {name: "validation" for name in training if _group(name) in chosen}
  return [
    found(videos.get(name), name, stamps, class_name=PurePosixPath(name).parts[0], split=split)
    for name, split in sorted(named.items())
  ]


def _group(name: str) -> str:
  """'Class/v_Class_g08_c01.avi' -> 'Class/v_Class_g08', what was cut from one recording."""
  return name.rpartition("_c")[0]


def _first_by_hash(groups: Iterable[str]) -> set[str]:
  """The share of the groups that is for validation, chosen by their names alone."""
  ordered = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
  return set(ordered[: math.ceil(_VALIDATION_SHARE * len(ordered))])


UCF101 = Layout(
  name="ucf101",
  list_files=_files,
  # The owners' splits; with 5 % of the first one's training groups for validation (paper 000).
  num_videos={
    "1": {"train": 9537, "test": 3783},
    "2": {"train": 9586, "test": 3734},
    "3": {"train": 9624, "test": 3696},
    _VALIDATION: {"test": 3783},
  },
  obtain=_OBTAIN,
)
"""The layout."""
