import pytest

from vidgen_jax.data.splits import divide, group_of
from vidgen_jax.errors import UserError


def test_pairs_are_numbers_2n_and_2n_plus_1_of_one_folder():
  assert group_of("0/00000002.jpg", "pair") == group_of("0/00000003.png", "pair") == "0/1"
  assert group_of("0/00000003.jpg", "pair") != group_of("0/00000004.jpg", "pair")
  assert group_of("0/00000002.jpg", "pair") != group_of("1/00000002.jpg", "pair")


def test_every_class_is_divided_in_the_same_proportion():
  class_names = {f"{c}/{i}": str(c) for c in range(3) for i in range(10 * (c + 1))}
  division = divide(class_names, grouping="file", test_fraction=0.2, seed=0)
  for c in range(3):
    assert sum(division[path] == "test" for path in class_names if class_names[path] == str(c)) == 2 * (c + 1)


def test_pairs_stay_together():
  class_names = {f"a/{i:04d}.png": "a" for i in range(40)}
  division = divide(class_names, grouping="pair", test_fraction=0.25, seed=3)
  assert all(division[f"a/{i:04d}.png"] == division[f"a/{i + 1:04d}.png"] for i in range(0, 40, 2))
  assert list(division.values()).count("test") == 10


def test_the_division_depends_on_the_seed_and_not_on_the_order():
  class_names = {f"a/{i}": "a" for i in range(50)}
  first = divide(class_names, grouping="file", test_fraction=0.5, seed=0)
  shuffled = dict(reversed(class_names.items()))
  assert divide(shuffled, grouping="file", test_fraction=0.5, seed=0) == first
  assert divide(class_names, grouping="file", test_fraction=0.5, seed=1) != first


@pytest.mark.parametrize(
  ("num_files", "test_fraction", "testing"), [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (3, 0.2, 1), (9, 0.0, 0)]
)
def test_small_classes_have_at_least_one_file_on_each_side(num_files, test_fraction, testing):
  class_names = {str(i): "a" for i in range(num_files)}
  division = divide(class_names, grouping="file", test_fraction=test_fraction, seed=0)
  assert list(division.values()).count("test") == testing


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"grouping": "pair"}, "--split_group=pair .* a/b.mp4"),
    ({"grouping": "person"}, "--split_group"),
    ({"test_fraction": 1.0}, "--test_fraction"),
    ({"test_fraction": -0.1}, "--test_fraction"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(UserError, match=message):
    divide({"a/b.mp4": "a"}, **{"grouping": "file", "test_fraction": 0.2, "seed": 0} | options)
