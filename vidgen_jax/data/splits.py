"""Divides files between training and testing, keeping files that belong together on one side."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from vidgen_jax.errors import UserError


def check_grouping(grouping: str) -> None:
  """Raises a UserError unless the grouping is one of `VideoFolderOptions.split_group`: 'file', 'pair' or a number.

  In Weizmann's strips, 'pair' groups mirror images of each other. The strips are numbered by person, then action, then
  mirroring, so that '8' groups all strips of a person.
  """
  if grouping not in ("file", "pair") and (not grouping.isdecimal() or int(grouping) < 2):
    raise UserError(f"--split_group must be file, pair or a whole number N >= 2, got {grouping!r}")


def group_of(path: str, grouping: str) -> str:
  """Group of a file: its path, the folder and number of its pair, or the number of its block.

  Raises UserError if the grouping is unknown, or needs numbers as file names and finds another name.
  """
  check_grouping(grouping)
  if grouping == "file":
    return path
  name = PurePosixPath(path)
  if not name.stem.isdecimal():
    raise UserError(
      f"--split_group={grouping} needs files that are named by numbers, got {path}; use --split_group=file"
    )
  if grouping == "pair":
    return str(name.with_name(str(int(name.stem) // 2)))
  return str(int(name.stem) // int(grouping))


def divide(class_names: Mapping[str, str], *, grouping: str, test_fraction: float, seed: int) -> dict[str, str]:
  """Returns 'train' or 'test' by path, from the class by path, with the same fraction of every class.

  Classes are divided separately; classes that share groups are divided together. The groups are ordered by a hash of
  seed and group; the first `test_fraction` of them, rounded, are for testing, but at least one per side if there are
  two or more. Where groups span classes, a group is skipped if it would leave a class without training files, and
  groups with a class that testing lacks come first, so that every class is on both sides if possible.

  Raises UserError if `test_fraction` is not in [0, 1), or a file does not suit the grouping, see `check_grouping`.
  """
  if not 0.0 <= test_fraction < 1.0:
    raise UserError(f"--test_fraction must be in [0, 1), got {test_fraction}")
  classes_of = defaultdict(set)
  for path, class_name in class_names.items():
    classes_of[group_of(path, grouping)].add(class_name)
  testing = set()
  for groups in _strata(classes_of):
    ordered = sorted(groups, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
    testing.update(_choose(ordered, classes_of, num_testing(len(ordered), test_fraction)))
  return {path: "test" if group_of(path, grouping) in testing else "train" for path in class_names}


def num_testing(count: int, test_fraction: float) -> int:
  """How many of `count` groups are for testing: the fraction, rounded, but at least one of two if it is not 0."""
  return min(max(round(test_fraction * count), 1), count - 1) if test_fraction else 0


def _strata(classes_of: Mapping[str, set[str]]) -> list[list[str]]:
  """Partitions the groups; groups with a common class are in the same list, transitively."""
  linked: list[frozenset[str]] = []
  for classes in {frozenset(classes) for classes in classes_of.values()}:
    joined = classes.union(*(other for other in linked if other & classes))
    linked = [joined, *(other for other in linked if not other & classes)]
  stratum_of = {class_name: stratum for stratum in linked for class_name in stratum}
  strata = defaultdict(list)
  for group, classes in classes_of.items():
    strata[stratum_of[min(classes)]].append(group)
  return list(strata.values())


def _choose(ordered: Sequence[str], classes_of: Mapping[str, set[str]], count: int) -> list[str]:
  """Groups for testing; if all have the same single class, the first `count`."""
  if not count:
    return []
  left = Counter(class_name for group in ordered for class_name in classes_of[group])
  chosen, covered = [], set()
  for fills_up in (False, True):
    for group in ordered:
      classes = classes_of[group]
      wanted = len(chosen) < count and group not in chosen if fills_up else not classes <= covered
      if wanted and all(left[class_name] > 1 for class_name in classes):
        chosen.append(group)
        covered |= classes
        left.subtract(classes)
  return chosen


def split_hash(split_of: Mapping[str, str | None]) -> str:
  """SHA-256 of a division: of the sorted lines 'split name' of {name: split}."""
  lines = sorted(f"{split} {name}\n" for name, split in split_of.items())
  return hashlib.sha256("".join(lines).encode()).hexdigest()
