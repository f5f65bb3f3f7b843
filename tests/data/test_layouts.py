"""Published data sets in miniature: the owners' files, lists and splits."""

import json

import pytest

from vidgen_jax import cli
from vidgen_jax.data import records, sources, transforms, verification
from vidgen_jax.data.layouts import LAYOUTS, split_hash
from vidgen_jax.data.listing import MISSING, Source
from vidgen_jax.errors import UserError

UCF101_TRAIN = [f"{c}/v_{c}_g{g:02d}_c{n:02d}.avi" for c in ("Archery", "Yo") for g in (8, 9, 10) for n in (1, 2)]
UCF101_TEST = [f"{c}/v_{c}_g01_c01.avi" for c in ("Archery", "Yo")]


@pytest.fixture
def ucf101(tmp_path, video):
  """Two classes of four scenes, of which the last video of training is not there."""
  root = tmp_path / "ucf"
  for name in UCF101_TRAIN[:-1] + UCF101_TEST:
    path = root / "UCF-101" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    video(path, [40, 80, 120], codec="mpeg4", container="avi")
  lists = root / "ucfTrainTestlist"
  lists.mkdir()
  (lists / "trainlist01.txt").write_text("".join(f"{name} 1\n" for name in UCF101_TRAIN))
  (lists / "testlist01.txt").write_text("".join(f"{name}\r\n" for name in UCF101_TEST))
  return root


SEQUENCES = """The frames of the sequences.

person01_handwaving_d1\t\tframes\t1-4, 5-9
person16_boxing_d2\t\tframes\t2-5, 6-7
person25_handwaving_d4\t\tframes\t3-20
"""


@pytest.fixture
def kth(tmp_path, video):
  root = tmp_path / "kth"
  for name in ("person01_handwaving_d1", "person16_boxing_d2", "person25_handwaving_d4", "person17_walking_d1"):
    folder = root / name.split("_")[1]
    folder.mkdir(parents=True, exist_ok=True)
    video(folder / f"{name}_uncomp.avi", list(range(0, 200, 20)), codec="mpeg4", container="avi")
  (root / "00sequences.txt").write_text(SEQUENCES)
  return root


def _files(name, root, rule):
  with Source(root) as source:
    return LAYOUTS[name].files(source, rule)


def _build(name, root, *flags):
  words = [f"--source={root}", f"--data_dir={root.parent / 'built'}", "--encoding=png", *flags]
  assert cli.dispatch(["data", "build", name, *words]) == 0
  info = sources.load_info(name, root.parent / "built")
  manifest = json.loads((records.dataset_directory(name, root.parent / "built") / "manifest.json").read_text())
  return info, manifest


def test_ucf101_is_split_by_its_owners_lists(ucf101, caplog):
  info, manifest = _build("ucf101", ucf101, "--size=16")
  assert dict(info.num_clips) == {"train": len(UCF101_TRAIN) - 1, "test": 2}
  assert info.class_names == ("Archery", "Yo")
  assert {split: lengths.tolist() for split, lengths in info.num_frames.items()} == {"train": [3] * 11, "test": [3, 3]}
  skipped = [entry for entry in manifest["sources"] if entry["status"] == "skipped"]
  named = {"source": UCF101_TRAIN[-1], "name": UCF101_TRAIN[-1], "class": "Yo", "split": "train"}
  assert skipped == [named | {"status": "skipped", "reason": "is missing"}]
  assert (manifest["builder"], manifest["split_rule"]) == ("ucf101", "1")
  assert manifest["complete_videos"] == {"train": 9537, "test": 3783}
  assert "ucf101: 11 of 9537 videos of the split train" in caplog.text
  # The hash is of the lists: it does not depend on what is missing, nor on where the folder lies.
  everyone = dict.fromkeys(UCF101_TRAIN, "train") | dict.fromkeys(UCF101_TEST, "test")
  assert manifest["split_hash"] == split_hash(everyone)
  assert split_hash(everyone | {UCF101_TEST[0]: "train"}) != split_hash(everyone)
  # So it can be computed again from the manifest, where a video that changes sides is noticed.
  assert verification.verify_dataset("ucf101", ucf101.parent / "built").problems == ()
  manifest["sources"][-1]["split"] = "test"
  (info.directory / records.MANIFEST).write_text(json.dumps(manifest))
  (problem,) = verification.verify_dataset("ucf101", ucf101.parent / "built").problems
  assert problem.startswith("manifest.json: its sources have the split hash ")


def test_validation_takes_whole_scenes_of_ucf101s_training(ucf101):
  found = {file.name: file.split for file in _files("ucf101", ucf101, "1_validation")}
  assert {name for name, split in found.items() if split == "test"} == set(UCF101_TEST)
  validation = {name for name, split in found.items() if split == "validation"}
  # One of six scenes, rounded up from 5 %: both of its videos.
  assert len(validation) == 2
  assert len({name[:-8] for name in validation}) == 1
  assert found == {file.name: file.split for file in _files("ucf101", ucf101, "1_validation")}


def test_classes_of_ucf101_stay_when_all_their_videos_are_missing(ucf101):
  for path in (ucf101 / "UCF-101" / "Archery").iterdir():
    path.unlink()
  info, _ = _build("ucf101", ucf101)
  assert info.class_names == ("Archery", "Yo")
  assert set(info.labels["train"].tolist()) == {1}


def test_kth_is_cut_where_its_list_says(kth):
  info, manifest = _build("kth", kth)
  # Frames 1-4 and 5-9 of ten; of the part that goes on to frame 20 those that exist; of the others 2-5 and 6-7.
  assert {split: sorted(lengths.tolist()) for split, lengths in info.num_frames.items()} == {
    "train": [4, 5],
    "validation": [2, 4],
    "test": [8, 10],
  }
  assert info.class_names == ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
  clips = {entry["source"].split("/")[-1]: entry["clips"] for entry in manifest["sources"] if entry["status"] == "used"}
  assert clips["person01_handwaving_d1_uncomp.avi"] == 2
  assert clips["person17_walking_d1_uncomp.avi"] == 1  # not in the list: whole
  assert sum(entry["status"] == "skipped" for entry in manifest["sources"]) == 599 - 4


def test_the_frames_of_kths_parts_are_the_right_ones(kth):
  info, _ = _build("kth", kth, "--split_rule=handwaving")
  assert info.class_names == ("handwaving",)
  assert dict(info.num_clips) == {"train": 2, "test": 1}
  source = sources.open_split(info, "train")
  clips = [transforms.decode_squares(source[i]["frames"], resolution=8)[:, 4, 4, 0].astype(int) for i in range(2)]
  first, second = sorted(clips, key=lambda levels: levels[0])
  assert abs(first - [0, 20, 40, 60]).max() <= 4
  assert abs(second - [80, 100, 120, 140, 160]).max() <= 4


def test_short_parts_are_left_out_and_long_ones_cut(kth):
  info, manifest = _build("kth", kth, "--clip_frames=4")
  assert {split: sorted(lengths) for split, lengths in info.num_frames.items()} == {
    "train": [4, 4],
    "validation": [4],
    "test": [4, 4, 4, 4],
  }
  assert sum(entry.get("clips", 0) for entry in manifest["sources"]) == 7


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_folder_of_something_else_says_what_to_fetch(name, tmp_path, capsys):
  (tmp_path / "x").mkdir()
  (tmp_path / "x" / "a.mp4").write_bytes(b"no video")
  words = ["data", "build", name, f"--data_dir={tmp_path / 'built'}"]
  assert cli.dispatch([*words, f"--source={tmp_path / 'x'}"]) == 2
  assert "fetch " in capsys.readouterr().err
  assert cli.dispatch(words) == 2
  assert "needs --source=FOLDER: fetch " in capsys.readouterr().err


def test_an_unknown_rule_and_flags_of_other_builders_are_refused(ucf101, capsys):
  with pytest.raises(UserError, match="--split_rule=4 is none of 1, 2, 3, 1_validation"):
    _files("ucf101", ucf101, "4")
  assert cli.dispatch(["data", "build", "ucf101", f"--source={ucf101}", "--test_fraction=0.5"]) == 2
  assert "--test_fraction does not apply" in capsys.readouterr().err


def test_the_complete_kth_has_599_videos(kth):
  by_split = {}
  for file in _files("kth", kth, "people"):
    by_split.setdefault(file.split, []).append(file)
  assert {split: len(files) for split, files in by_split.items()} == dict(LAYOUTS["kth"].num_videos["people"])
  assert sum(file.stamp != MISSING for files in by_split.values() for file in files) == 4
