"""Dividing files between training and testing, such that files that belong together stay together."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

from vidgen_jax.errors import UserError

GROUPINGS = ("file", "pair")
"""'file': every file by itself; 'pair': files 2 n and 2 n + 1, which are mirror images of each other in Weizmann."""


def group_of(path: str, grouping: str) -> str:
  """The group that a file belongs to; one group never lies on both sides.

  Args:
    path: path within the source.
    grouping: one of `GROUPINGS`.

  Raises:
    UserError: if the grouping is unknown, or 'pair' meets a name that is not a number.
  """
  if grouping == "file":
    return path
  if grouping != "pair":
    raise UserError(f"--split_group must be one of {', '.join(GROUPINGS)}, got {grouping!r}")
  name = PurePosixPath(path)
  if not name.stem.isdecimal():
    raise UserError(f"--split_group=pair needs files that are named by numbers, got {path}; use --split_group=file")
  return str(name.with_name(str(int(name.stem) // 2)))


def divide(class_names: Mapping[str, str], *, grouping: str, test_fraction: float, seed: int) -> dict[str, str]:
  """Divides every class by itself, so that both sides see the same mixture.

  The groups of a class are ordered by a hash of seed and group, and the first of them are for testing: the nearest
  whole number to `test_fraction` of them, but at least one on each side where there are two groups or more.

  Args:
    class_names: class by path.
    grouping: one of `GROUPINGS`.
    test_fraction: part of the groups that is for testing, in [0, 1).
    seed: another seed gives another division.

  Returns:
    'train' or 'test' by path.

  Raises:
    UserError: as `group_of`, or if `test_fraction` is out of range.
  """
  if not 0.0 <= test_fraction < 1.0:
    raise UserError(f"--test_fraction must be in [0, 1), got {test_fraction}")
  groups = defaultdict(set)
  for path, class_name in class_names.items():
    groups[class_name].add(group_of(path, grouping))
  testing = set()
  for members in groups.values():
    ordered = sorted(members, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
    testing.update(ordered[: _num_testing(len(ordered), test_fraction)])
  return {path: "test" if group_of(path, grouping) in testing else "train" for path in class_names}


def _num_testing(num_groups: int, test_fraction: float) -> int:
  if test_fraction == 0.0 or num_groups < 2:
    return 0
  return min(max(round(test_fraction * num_groups), 1), num_groups - 1)
