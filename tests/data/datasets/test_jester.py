"""Jester: folders of images, and lists 'id;label'."""

import pytest

from tests.data.datasets.listings import listed, missing
from tests.data.datasets.miniatures import make_jester, zip_up
from vidgen_jax.errors import UserError


@pytest.fixture
def jester(tmp_path):
  return make_jester(tmp_path / "j")


def test_the_owners_validation_list_is_the_split_test(jester):
  files = listed("jester", jester)
  assert [(file.name, file.class_name, file.split) for file in files] == [
    ("1", "Swiping Left", "train"),
    ("20", "No gesture", "train"),
    ("300", "Drumming Fingers", "train"),
    ("4", "No gesture", "test"),
  ]
  assert missing(files) == {"300"}


def test_a_video_is_the_images_of_its_folder(jester):
  files = {file.name: file for file in listed("jester", jester)}
  assert files["20"].path == "20bn-jester-v1/20"
  assert files["20"].images == tuple(f"20bn-jester-v1/20/0000{number}.jpg" for number in range(3))
  (jester / "20bn-jester-v1" / "20" / "00001.jpg").write_bytes(b"another")
  after = {file.name: file for file in listed("jester", jester)}
  assert after["20"].stamp != files["20"].stamp
  assert after["1"].stamp == files["1"].stamp


def test_images_may_be_in_a_zip_file(jester):
  zip_up(jester / "20bn-jester-v1", jester / "archive.zip")
  files = {file.name: file for file in listed("jester", jester)}
  assert files["4"].images == ("archive.zip/4/00000.jpg", "archive.zip/4/00001.jpg")


def test_both_lists_are_needed(jester):
  (jester / "jester-v1-train.csv").write_text("1;Swiping Left\n\n20\n")
  with pytest.raises(UserError, match=r"has a jester-v1-train\.csv whose line 3 is not 'id;label': fetch "):
    listed("jester", jester)
  (jester / "jester-v1-validation.csv").unlink()
  (jester / "jester-v1-train.csv").write_text("1;Swiping Left\n")
  with pytest.raises(UserError, match=r"has no jester-v1-validation\.csv: fetch "):
    listed("jester", jester)
