"""Kinetics: lists under all common names, and videos in any folder."""

import numpy as np
import pytest

from tests.data.datasets.listings import build, clips_by_split, levels, listed, missing, names_by_split
from tests.data.datasets.miniatures import grey, make_kinetics
from vidgen_jax.data.splits import split_hash
from vidgen_jax.errors import UserError

TRAIN = {
  "-a_b-C12345_000015_000025": "springboard diving",
  "__NrybzYzUg_000415_000425": 'playing "catch, or" frisbee',
  "whole_video_000000_000010": "springboard diving",
  "gone-gone-1_000007_000017": "ironing",
}
VALIDATION = "v-v_v-v_v-1_000100_000110"


@pytest.fixture
def kinetics(tmp_path):
  return make_kinetics(tmp_path / "k", 400)


@pytest.mark.parametrize("version", [400, 600, 700])
def test_lists_name_classes_and_splits(tmp_path, version):
  files = listed(f"kinetics{version}", make_kinetics(tmp_path / "k", version))
  assert names_by_split(files) == {"train": set(TRAIN), "validation": {VALIDATION}}
  assert {file.name: file.class_name for file in files} == TRAIN | {VALIDATION: "ironing"}
  assert missing(files) == {"gone-gone-1_000007_000017"}
  assert {file.name: file.path for file in files if file.name not in missing(files)} == {
    "-a_b-C12345_000015_000025": "train/-a_b-C12345_000015_000025.mp4",
    "__NrybzYzUg_000415_000425": "train/part/__NrybzYzUg_000415_000425.mkv",
    "whole_video_000000_000010": "train/whole_video.mp4",
    VALIDATION: "val/v-v_v-v_v-1_000100_000110.mp4",
  }
  assert split_hash({file.name: file.split for file in files}) == split_hash(
    dict.fromkeys(TRAIN, "train") | {VALIDATION: "validation"}
  )


def test_videos_are_resampled_and_clips_count_the_result(kinetics):
  grey(kinetics / "train" / "whole_video.mp4", [20, 60, 100, 140, 180, 220], rate=50)
  info, manifest = build("kinetics400", kinetics, "--clip_frames=2")
  assert info.fps == (25.0,)
  entry = next(entry for entry in manifest["sources"] if entry["source"] == "train/whole_video.mp4")
  # Every second of six frames is one clip of two frames; the third is the rest.
  assert (entry["source_fps"], entry["fps"], entry["frames"], entry["clips"]) == (50.0, 25.0, 3, 1)
  assert any(np.allclose(clip, [20, 100], atol=4) for clip in levels(info, "train"))


def test_a_labelled_test_list_is_the_split_test(kinetics):
  (kinetics / "annotations" / "test.csv").write_text(
    "label,youtube_id,time_start,time_end,split\nironing,t_t-t_t-t_1,1,11,test\n,unlabelled1,1,11,test\n"
  )
  assert names_by_split(listed("kinetics400", kinetics))["test"] == {"t_t-t_t-t_1_000001_000011"}


def test_a_list_without_labels_is_ignored(kinetics):
  (kinetics / "annotations" / "test.csv").write_text("youtube_id,time_start,time_end,split\nt_t-t_t-t_1,1,11,test\n")
  assert set(names_by_split(listed("kinetics400", kinetics))) == {"train", "validation"}


def test_the_training_list_alone_suffices(kinetics):
  for name in ("val", "test"):
    (kinetics / "annotations" / f"{name}.csv").unlink()
  assert set(names_by_split(listed("kinetics400", kinetics))) == {"train"}
  (kinetics / "annotations" / "train.csv").unlink()
  with pytest.raises(UserError, match=r"has no train\.csv: fetch "):
    listed("kinetics400", kinetics)


def test_two_lists_of_a_split_are_refused(kinetics):
  (kinetics / "annotations" / "train.txt").write_text("label,youtube_id,time_start,time_end\n")
  with pytest.raises(UserError, match=r"has several lists of the split train, train\.csv and train\.txt; leave the"):
    listed("kinetics400", kinetics)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("a b.mp4 0\n", r"has a train\.csv whose first line lacks one of time_end, time_start, youtube_id: fetch "),
    (
      "label,youtube_id,time_start,time_end\na,b,1,2\na,c,1,\n",
      r"has a train\.csv whose line 3 has no start or end time",
    ),
  ],
)
def test_malformed_lists_are_refused(kinetics, text, message):
  (kinetics / "annotations" / "train.csv").write_text(text)
  with pytest.raises(UserError, match=message):
    listed("kinetics400", kinetics)


def test_a_file_named_by_id_is_used_only_if_the_clip_is_unambiguous(kinetics):
  with (kinetics / "annotations" / "train.csv").open("a") as file:
    file.write("ironing,whole_video,20,30,train,0\n")
  assert {"whole_video_000000_000010", "whole_video_000020_000030"} <= missing(listed("kinetics400", kinetics))
  # A repeated row is one clip, of the first list.
  with (kinetics / "annotations" / "val.csv").open("a") as file:
    file.write("ironing,v-v_v-v_v-1,100,110,validate,0\nironing,gone-gone-1,7,17,validate,0\n")
  assert clips_by_split(listed("kinetics400", kinetics)) == {"train": 5, "validation": 1}


def test_replacements_of_damaged_videos_are_preferred(kinetics):
  name = "-a_b-C12345_000015_000025"
  grey(kinetics / "replacement" / f"{name}.mp4", [0, 0])
  assert {file.name: file.path for file in listed("kinetics400", kinetics)}[name] == f"replacement/{name}.mp4"
