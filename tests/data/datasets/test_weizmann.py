"""Weizmann: nine people and ten actions; one person performs three of them twice."""

from collections import Counter

import pytest

from tests.data.datasets.listings import PUBLISHED, clips_by_split, listed, missing, names_by_split
from tests.data.datasets.miniatures import make_weizmann


@pytest.fixture
def weizmann(tmp_path):
  return make_weizmann(tmp_path / "w")


def test_the_complete_set_has_93_videos(weizmann):
  files = listed("weizmann", weizmann)
  # 9 x 10, and lena's second run, skip and walk.
  assert len({file.name for file in files}) == len(files) == 93
  assert Counter(file.class_name for file in files) == Counter(
    {"bend": 9, "jack": 9, "jump": 9, "pjump": 9, "run": 10, "side": 9, "skip": 10, "walk": 10, "wave1": 9, "wave2": 9}
  )
  lena = {file.name for file in files if file.name.startswith("lena")}
  assert {"lena_run1", "lena_run2", "lena_skip1", "lena_skip2", "lena_walk1", "lena_walk2", "lena_wave1"} <= lena
  assert not lena & {"lena_run", "lena_skip", "lena_walk"}


def test_two_people_or_none_are_for_testing(weizmann):
  for rule in ("people", "all"):
    assert clips_by_split(listed("weizmann", weizmann, rule)) == dict(
      PUBLISHED["weizmann"].split_rules[rule].num_videos
    )
  names = names_by_split(listed("weizmann", weizmann))
  assert {name.split("_")[0] for name in names["test"]} == {"moshe", "shahar"}
  assert {name.split("_")[0] for name in names["train"]} == {"daria", "denis", "eli", "ido", "ira", "lena", "lyova"}


def test_zip_files_are_read_without_unpacking(weizmann):
  files = listed("weizmann", weizmann)
  there = {file.path: file.class_name for file in files if file.name not in missing(files)}
  assert there == {
    "walk.zip/daria_walk.avi": "walk",
    "walk.zip/lena_walk1.avi": "walk",
    "walk.zip/lena_walk2.avi": "walk",
    "bend.zip/moshe_bend.avi": "bend",
    "wave1/shahar_wave1.avi": "wave1",
  }
