"""Published data sets as their owners distribute them: which file is what, and how papers split them."""

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from vidgen_jax.data.listing import MISSING, Source, SourceFile
from vidgen_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """How the files of a published data set are to be read.

  Attributes:
    name: of the data set, and of its builder.
    list_files: (source, rule) -> the videos that the rule uses, those that the source lacks marked as such.
    num_videos: by rule, the first being the default, and by split as far as known: how many the complete set has.
    obtain: what to fetch and how to lay it out, with the space that it takes.
  """

  name: str
  list_files: Callable[[Source, str], list[SourceFile]]
  num_videos: Mapping[str, Mapping[str, int]]
  obtain: str

  def files(self, source: Source, rule: str) -> list[SourceFile]:
    """The videos of a split rule, in a fixed order.

    Raises:
      UserError: if there is no such rule, or the source does not hold the data set.
    """
    if rule not in self.num_videos:
      raise UserError(f"--split_rule={rule} is none of {', '.join(self.num_videos)}, which {self.name} has")
    files = self.list_files(source, rule)
    if all(file.stamp == MISSING for file in files):
      raise UserError(f"--source {source.path} does not hold {self.name}: {self.obtain}")
    return files


def split_hash(split_of: Mapping[str, str]) -> str:
  """SHA-256 of who is on which side: of the lines 'split name', sorted.

  Args:
    split_of: split by name.
  """
  lines = sorted(f"{split} {name}\n" for name, split in split_of.items())
  return hashlib.sha256("".join(lines).encode()).hexdigest()


# UCF-101 (Soomro et al. 2012). Each of its owners' three splits divides all 13,320 videos and keeps scenes together.

_UCF101_VALIDATION = "1_validation"
_UCF101_VALIDATION_SHARE = 0.05
_UCF101_OBTAIN = (
  "fetch UCF101.rar (6.5 GB) and UCF101TrainTestSplits-RecognitionTask.zip from crcv.ucf.edu/data/UCF101.php, unpack "
  "both and give the folder that holds UCF-101/<class>/*.avi and ucfTrainTestlist/"
)


def _ucf101_files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  lists = {PurePosixPath(path).name: path for path in stamps if path.endswith(".txt")}
  videos = {"/".join(PurePosixPath(path).parts[-2:]): path for path in stamps if path.endswith(".avi")}
  number = rule.removesuffix("_validation")
  named = {}
  for split in ("train", "test"):
    name = f"{split}list0{number}.txt"
    if name not in lists:
      raise UserError(f"--source {source.path} has no {name}: {_UCF101_OBTAIN}")
    with source.open(lists[name]) as file:
      lines = file.read().decode().splitlines()
    named |= {line.split()[0]: split for line in lines if line.strip()}
  if rule == _UCF101_VALIDATION:
    training = [name for name, split in named.items() if split == "train"]
    chosen = _first_by_hash({_ucf101_group(name) for name in training})
    named |= {name: "validation" for name in training if _ucf101_group(name) in chosen}
  return [
    _found(videos.get(name), name, stamps, class_name=PurePosixPath(name).parts[0], split=split)
    for name, split in sorted(named.items())
  ]


def _ucf101_group(name: str) -> str:
  """'Class/v_Class_g08_c01.avi' -> 'Class/v_Class_g08', what was cut from one recording."""
  return name.rpartition("_c")[0]


def _first_by_hash(groups: Iterable[str]) -> set[str]:
  """The share of the groups that is for validation, chosen by their names alone."""
  ordered = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
  return set(ordered[: math.ceil(_UCF101_VALIDATION_SHARE * len(ordered))])


# KTH (Schuldt et al. 2004): 25 people, six actions, four settings; one video of the 600 does not exist.

_KTH_ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
_KTH_SEQUENCES = "00sequences.txt"
_KTH_VIDEO = re.compile(rf"person(\d\d)_({'|'.join(_KTH_ACTIONS)})_d([1-4])(?:_uncomp)?\.avi")
_KTH_LINE = re.compile(r"(person\d\d_\w+_d[1-4])\s+frames\s+([\d\s,-]+)")
_KTH_ABSENT = {"person13_handclapping_d3"}
_KTH_OBTAIN = (
  "fetch the six zip files (1.1 GB) and 00sequences.txt from www.csc.kth.se/cvap/actions, unpack the former and give "
  "the folder that holds all of it"
)


def _kth_split(rule: str, person: int) -> str:
  if rule == "handwaving":
    return "train" if person <= 20 else "test"
  return "train" if person <= 15 else "validation" if person == 16 else "test"


def _kth_files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  videos = {}
  for path in stamps:
    if match := _KTH_VIDEO.fullmatch(PurePosixPath(path).name):
      videos["person{}_{}_d{}".format(*match.groups())] = path
  lists = [path for path in stamps if PurePosixPath(path).name == _KTH_SEQUENCES]
  if not lists:
    raise UserError(f"--source {source.path} has no {_KTH_SEQUENCES}: {_KTH_OBTAIN}")
  with source.open(lists[0]) as file:
    parts = _kth_sequences(file.read().decode(errors="replace"))
  actions = ("handwaving",) if rule == "handwaving" else _KTH_ACTIONS
  names = [
    (person, action, f"person{person:02d}_{action}_d{setting}")
    for person in range(1, 26)
    for action in actions
    for setting in range(1, 5)
  ]
  return [
    _found(videos.get(name), name, stamps, class_name=action, split=_kth_split(rule, person), parts=parts.get(name, ()))
    for person, action, name in names
    if name not in _KTH_ABSENT
  ]


def _kth_sequences(text: str) -> dict[str, tuple[tuple[int, int], ...]]:
  """Ranges of frames by video, 0-based and without the last: '1-95, 96-185' -> ((0, 95), (95, 185))."""
  found = {}
  for line in text.splitlines():
    if match := _KTH_LINE.match(line.strip()):
      ranges = re.findall(r"(\d+)\s*-\s*(\d+)", match[2])
      found[match[1]] = tuple((int(first) - 1, int(last)) for first, last in ranges)
  return found


def _found(
  path: str | None,
  name: str,
  stamps: Mapping[str, str],
  *,
  class_name: str,
  split: str,
  parts: Sequence[tuple[int, int]] = (),
) -> SourceFile:
  """A listed video: where it lies, or that it is missing."""
  stamp = MISSING if path is None else stamps[path]
  return SourceFile(path=path or name, name=name, class_name=class_name, split=split, stamp=stamp, parts=tuple(parts))


LAYOUTS = {
  "kth": Layout(
    name="kth",
    list_files=_kth_files,
    # Persons 1-15, 16 and 17-25 (paper 000); hand-waving alone, persons 1-20 and 21-25 (80 and 20 % of paper 002).
    num_videos={
      "people": {"train": 359, "validation": 24, "test": 216},
      "handwaving": {"train": 80, "test": 20},
    },
    obtain=_KTH_OBTAIN,
  ),
  "ucf101": Layout(
    name="ucf101",
    list_files=_ucf101_files,
    # The owners' splits; with 5 % of the first one's training groups for validation (paper 000).
    num_videos={
      "1": {"train": 9537, "test": 3783},
      "2": {"train": 9586, "test": 3734},
      "3": {"train": 9624, "test": 3696},
      _UCF101_VALIDATION: {"test": 3783},
    },
    obtain=_UCF101_OBTAIN,
  ),
}
"""By name."""
