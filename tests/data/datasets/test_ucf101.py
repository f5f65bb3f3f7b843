"""UCF-101: the owners' lists, and videos for validation."""

import hashlib
import json

import pytest

from tests.data.datasets.listings import build, listed
from tests.data.datasets.miniatures import UCF101_TEST, UCF101_TRAIN, make_ucf101
from vidgen_jax.data import records, verification
from vidgen_jax.data.splits import split_hash


@pytest.fixture
def ucf101(tmp_path):
  return make_ucf101(tmp_path / "ucf")


def test_the_owners_lists_are_the_splits(ucf101, caplog):
  info, manifest = build("ucf101", ucf101, "--size=16")
  assert dict(info.num_clips) == {"train": len(UCF101_TRAIN) - 1, "test": 2}
  assert info.class_names == ("Archery", "Yo")
  assert {split: lengths.tolist() for split, lengths in info.num_frames.items()} == {"train": [3] * 11, "test": [3, 3]}
  skipped = [entry for entry in manifest["sources"] if entry["status"] == "skipped"]
  named = {"source": UCF101_TRAIN[-1], "name": UCF101_TRAIN[-1], "class": "Yo", "split": "train"}
  assert skipped == [named | {"status": "skipped", "reason": "is missing"}]
  assert (manifest["builder"], manifest["split_rule"]) == ("ucf101", "1")
  assert manifest["complete_videos"] == {"train": 9537, "test": 3783}
  assert "ucf101: 11 of 9537 videos of the split train" in caplog.text
  # The hash is that of the lists: missing videos and the path of the folder do not change it.
  everyone = dict.fromkeys(UCF101_TRAIN, "train") | dict.fromkeys(UCF101_TEST, "test")
  assert manifest["split_hash"] == split_hash(everyone)
  assert split_hash(everyone | {UCF101_TEST[0]: "train"}) != split_hash(everyone)
  # It can be computed again from the manifest, so that a video with another split is detected.
  assert verification.verify_dataset("ucf101", ucf101.parent / "built").problems == ()
  manifest["sources"][-1]["split"] = "test"
  (info.directory / records.MANIFEST).write_text(json.dumps(manifest))
  (problem,) = verification.verify_dataset("ucf101", ucf101.parent / "built").problems
  assert problem.startswith("manifest.json: its sources have the split hash ")


def test_validation_takes_5_percent_of_the_training_videos(ucf101):
  found = {file.name: file.split for file in listed("ucf101", ucf101, "1_validation")}
  assert {name for name, split in found.items() if split == "test"} == set(UCF101_TEST)
  # Of twelve videos, rounded up: the one whose name has the lowest SHA-256.
  (validation,) = {name for name, split in found.items() if split == "validation"}
  assert validation == min(UCF101_TRAIN, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
  assert found == {file.name: file.split for file in listed("ucf101", ucf101, "1_validation")}


def test_classes_remain_if_all_their_videos_are_missing(ucf101):
  for path in (ucf101 / "UCF-101" / "Archery").iterdir():
    path.unlink()
  info, _ = build("ucf101", ucf101)
  assert info.class_names == ("Archery", "Yo")
  assert set(info.labels["train"].tolist()) == {1}
