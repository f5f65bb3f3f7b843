"""MUG: takes of people and expressions."""

import hashlib

import pytest

from tests.data.datasets.listings import clips_by_split, listed, names_by_split
from tests.data.datasets.miniatures import images, make_mug

TAKES = {f"00{subject}/{expression}/take000" for subject in range(1, 6) for expression in ("anger", "happiness")}
SESSION = "005/session1/anger/take000"
NEUTRAL = "001/neutral/take000"


@pytest.fixture
def mug(tmp_path):
  return make_mug(tmp_path / "m")


def _lowest(names, count):
  return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])


def test_takes_of_six_expressions_are_divided(mug):
  files = listed("mug", mug)
  # A fifth of eleven, rounded.
  assert clips_by_split(files) == {"train": 9, "test": 2}
  names = names_by_split(files)
  assert names["test"] == _lowest(TAKES | {SESSION}, 2)
  assert names["train"] == (TAKES | {SESSION}) - names["test"]
  assert {file.class_name for file in files} == {"anger", "happiness"}
  (session,) = (file for file in files if file.name == SESSION)
  assert session.images == tuple(f"subjects3/{SESSION}/img_000{number}.jpg" for number in range(2))


def test_subjects_have_one_split(mug):
  names = names_by_split(listed("mug", mug, "subjects"))
  (testing,) = {name.split("/")[0] for name in names["test"]}
  assert {testing} == _lowest({"001", "002", "003", "004", "005"}, 1)
  assert {name.split("/")[0] for name in names["train"]} == {"001", "002", "003", "004", "005"} - {testing}
  assert names["train"] | names["test"] == TAKES | {SESSION}


@pytest.mark.parametrize("rule", ["takes_neutral", "subjects_neutral"])
def test_neutral_faces_on_request(mug, rule):
  files = listed("mug", mug, rule)
  assert {file.name for file in files} == TAKES | {SESSION, NEUTRAL}
  assert [file.class_name for file in files if file.name == NEUTRAL] == ["neutral"]
  if rule == "subjects_neutral":
    assert names_by_split(files)["test"] - {NEUTRAL} == names_by_split(listed("mug", mug, "subjects"))["test"] - {
      NEUTRAL
    }


def test_parent_folders_do_not_change_the_split(mug, tmp_path):
  def facts(files):
    return [(file.name, file.split, len(file.images)) for file in files]

  assert facts(listed("mug", mug / "subjects3")) == facts(listed("mug", mug)) == facts(listed("mug", tmp_path))


def test_images_outside_of_takes_are_not_used(mug):
  images(mug / "subjects3" / "001" / "anger", [0, 0], name="img_{:04d}.jpg")
  images(mug / "subjects3" / "001" / "anger" / "landmarks" / "take000", [0, 0], name="img_{:04d}.jpg")
  images(mug / "subjects3" / "001" / "boredom" / "take000", [0, 0], name="img_{:04d}.jpg")
  assert len(listed("mug", mug)) == 11
