"""Division of files between training and testing."""

import pytest

from vidgen_jax.data.splits import divide, group_of
from vidgen_jax.errors import UserError


def test_pairs_are_numbers_2n_and_2n_plus_1_of_one_folder():
  assert group_of("0/00000002.jpg", "pair") == group_of("0/00000003.png", "pair") == "0/1"
  assert group_of("0/00000003.jpg", "pair") != group_of("0/00000004.jpg", "pair")
  assert group_of("0/00000002.jpg", "pair") != group_of("1/00000002.jpg", "pair")


def test_blocks_are_n_consecutive_numbers_of_all_folders():
  assert group_of("0/00000016.jpg", "8") == group_of("4/00000023.png", "8") == "2"
  assert group_of("0/00000015.jpg", "8") == "1"
  assert group_of("0/00000024.jpg", "8") == "3"


def test_every_class_has_the_same_test_fraction():
  class_names = {f"{c}/{i}": str(c) for c in range(3) for i in range(10 * (c + 1))}
  division = divide(class_names, grouping="file", test_fraction=0.2, seed=0)
  for c in range(3):
    assert sum(division[path] == "test" for path in class_names if class_names[path] == str(c)) == 2 * (c + 1)


def test_pairs_stay_together():
  class_names = {f"a/{i:04d}.png": "a" for i in range(40)}
  division = divide(class_names, grouping="pair", test_fraction=0.25, seed=3)
  assert all(division[f"a/{i:04d}.png"] == division[f"a/{i + 1:04d}.png"] for i in range(0, 40, 2))
  assert list(division.values()).count("test") == 10


def _weizmann() -> dict[str, str]:
  """Nine people x four actions x (clip, mirror image), numbered in this order."""
  return {
    f"{action}/{8 * person + 2 * action + side:08d}.jpg": str(action)
    for person in range(9)
    for action in range(4)
    for side in range(2)
  }


@pytest.mark.parametrize("seed", range(5))
def test_all_actions_of_a_person_have_one_split(seed):
  class_names = _weizmann()
  division = divide(class_names, grouping="8", test_fraction=0.2, seed=seed)
  people = {side: {int(path[2:10]) // 8 for path in division if division[path] == side} for side in ("train", "test")}
  # round(0.2 * 9) = 2 of 9 people.
  assert len(people["test"]) == 2 and len(people["train"]) == 7 and not people["test"] & people["train"]
  assert {class_names[path] for path in division if division[path] == "test"} == {"0", "1", "2", "3"}


def test_classes_without_common_blocks_are_divided_separately():
  # Class a has blocks 0 .. 9, class b blocks 10 .. 29: a tenth of each, not of both together.
  class_names = {f"a/{i}": "a" for i in range(20)} | {f"b/{i}": "b" for i in range(20, 60)}
  division = divide(class_names, grouping="2", test_fraction=0.1, seed=0)
  testing = [class_names[path] for path, side in division.items() if side == "test"]
  assert testing.count("a") == 2 and testing.count("b") == 4


@pytest.mark.parametrize("seed", range(20))
def test_every_class_has_both_splits_if_blocks_allow_it(seed):
  # Ten blocks of class a; class b in blocks 3 and 7 only, class c in block 5 only, which must stay for training.
  class_names = {f"a/{4 * block}": "a" for block in range(10)}
  class_names |= {"b/13": "b", "b/29": "b", "c/22": "c"}
  division = divide(class_names, grouping="4", test_fraction=0.2, seed=seed)
  assert {division["b/13"], division["b/29"]} == {"train", "test"}
  assert division["c/22"] == division["a/20"] == "train"
  # A block of b is moved to the front if necessary; the number stays round(0.2 * 10).
  assert [division[path] for path in class_names if path[0] == "a"].count("test") == 2


def test_the_division_depends_on_the_seed_but_not_on_the_order():
  class_names = {f"a/{i}": "a" for i in range(50)}
  first = divide(class_names, grouping="file", test_fraction=0.5, seed=0)
  shuffled = dict(reversed(class_names.items()))
  assert divide(shuffled, grouping="file", test_fraction=0.5, seed=0) == first
  assert divide(class_names, grouping="file", test_fraction=0.5, seed=1) != first


@pytest.mark.parametrize(
  ("num_files", "test_fraction", "testing"), [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (3, 0.2, 1), (9, 0.0, 0)]
)
def test_small_classes_have_at_least_one_file_per_split(num_files, test_fraction, testing):
  class_names = {str(i): "a" for i in range(num_files)}
  division = divide(class_names, grouping="file", test_fraction=test_fraction, seed=0)
  assert list(division.values()).count("test") == testing


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"grouping": "pair"}, "--split_group=pair .* a/b.mp4"),
    ({"grouping": "8"}, "--split_group=8 .* a/b.mp4"),
    ({"grouping": "person"}, "--split_group must be file, pair or a whole number N >= 2, got 'person'"),
    ({"grouping": "1"}, "--split_group .* '1'"),
    ({"test_fraction": 1.0}, "--test_fraction"),
    ({"test_fraction": -0.1}, "--test_fraction"),
  ],
)
def test_invalid_options_name_the_flag(options, message):
  with pytest.raises(UserError, match=message):
    divide({"a/b.mp4": "a"}, **{"grouping": "file", "test_fraction": 0.2, "seed": 0} | options)
