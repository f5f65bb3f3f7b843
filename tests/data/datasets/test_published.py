"""Properties of all published data sets."""

import re

import pytest

from tests.data.datasets.listings import PUBLISHED, build, clips_by_split, listed
from tests.data.datasets.miniatures import MINIATURES, grey, make_kth
from vidgen_jax import cli
from vidgen_jax.data import datasets
from vidgen_jax.data.datasets.published import first_by_hash, images_by_folder
from vidgen_jax.data.splits import split_hash
from vidgen_jax.errors import UserError


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_error_for_another_folder_says_what_to_fetch(name, tmp_path, capsys):
  (tmp_path / "x").mkdir()
  (tmp_path / "x" / "a.mp4").write_bytes(b"no video")
  words = ["data", "build", name, f"--data_dir={tmp_path / 'built'}"]
  assert cli.dispatch([*words, f"--source={tmp_path / 'x'}"]) == 2
  assert "fetch " in capsys.readouterr().err
  assert cli.dispatch(words) == 2
  manual = tmp_path / "built" / "downloads" / "manual" / name
  assert f"needs --source=FOLDER, or the files in {manual}: fetch " in capsys.readouterr().err
  manual.mkdir(parents=True)
  (manual / "a.mp4").write_bytes(b"no video")
  assert cli.dispatch(words) == 2
  assert "needs --source" not in (complaint := capsys.readouterr().err)
  assert "fetch " in complaint


def test_unknown_rules_and_flags_of_other_data_sets_are_refused(tmp_path, capsys):
  kth = make_kth(tmp_path / "kth")
  with pytest.raises(UserError, match="--split_rule=4 must be one of people, handwaving for kth"):
    listed("kth", kth, "4")
  assert cli.dispatch(["data", "build", "kth", f"--source={kth}", "--test_fraction=0.5"]) == 2
  assert "--test_fraction does not apply" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_download_instructions_are_complete(name):
  obtain = PUBLISHED[name].obtain
  assert obtain.startswith("fetch ")
  assert re.search(rf"<data_dir>/downloads/manual/{name}\b", obtain)
  assert re.search(r"\(about [\d.]+ GB|\([\d.]+ GB", obtain)
  assert re.search(r"--size=64 takes about [\d.]+ (GB|MB)", obtain)
  assert "of one core" in obtain


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_names_are_unique_and_rules_are_repeatable(name, tmp_path):
  root, again = (MINIATURES[name](tmp_path / folder) for folder in ("a", "b"))
  for rule, (_, complete) in PUBLISHED[name].split_rules.items():
    files = listed(name, root, rule)
    assert len({file.name for file in files}) == len({file.identity for file in files}) == len(files)
    assert set(clips_by_split(files)) <= {"train", "validation", "test"}
    assert set(complete) <= set(clips_by_split(files))
    other = listed(name, again, rule)
    assert [(file.name, file.split, file.path) for file in files] == [(f.name, f.split, f.path) for f in other]


def test_split_hash_is_that_of_the_sorted_lines():
  # printf 'test b\ntrain a\n' | sha256sum
  expected = "29058d45cb66500ce695594ea625b3327171ee6cdb87543fcb1b84341a10cbb1"
  assert split_hash({"a": "train", "b": "test"}) == split_hash({"b": "test", "a": "train"}) == expected
  assert split_hash({"a": "test", "b": "train"}) != expected


def test_the_lowest_hashes_are_chosen():
  # SHA-256: a ca97.., b 3e23.., c 2e7d.., d 18ac..
  assert first_by_hash("abcd", 2) == {"c", "d"}
  assert first_by_hash("abcd", 0) == set()


def test_images_are_in_numerical_order():
  paths = ["a/x10.jpg", "a/x9.jpg", "a/b/0.PNG", "a/list.txt", "1.jpeg"]
  found = images_by_folder(paths)
  assert found == {"a": ("a/x9.jpg", "a/x10.jpg"), "a/b": ("a/b/0.PNG",), "": ("1.jpeg",)}


NEW_DATA_SET = """
from vidgen_jax.data.datasets import SplitRule
from vidgen_jax.data.datasets.published import by_file_name, found, published

@published(name="toy", title="Toy", split_rules={"all": SplitRule("all for training", {})}, obtain="fetch it")
def _list_files(source, rule):
  stamps = source.stamps()
  videos = by_file_name(stamps, (".mp4",))
  return [found(path, name, stamps, class_name="a", split="train") for name, path in videos.items()]
"""


def test_a_data_set_is_added_with_one_file(tmp_path, monkeypatch):
  (tmp_path / "package").mkdir()
  (tmp_path / "package" / "toy_data_set.py").write_text(NEW_DATA_SET)
  monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path / "package")])
  monkeypatch.setattr(datasets, "_REGISTRY", dict(datasets._REGISTRY))
  grey(tmp_path / "source" / "a.mp4", [40, 80, 120])
  info, manifest = build("toy", tmp_path / "source")
  assert (info.num_clips, manifest["builder"], manifest["split_rule"]) == ({"train": 1}, "toy", "all")
