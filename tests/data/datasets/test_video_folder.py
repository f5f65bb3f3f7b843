"""Builds from folders and archives of videos."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data import building, pipeline, records, staging, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.datasets import video_folder
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.data.listing import SourceFile
from vidgen_jax.data.staging import Staged
from vidgen_jax.data.verification import verify_dataset
from vidgen_jax.errors import UserError


@pytest.fixture
def folder(tmp_path, strip, marked_clip):
  """Ten strips of 6 frames in two classes; the number of the file is the red value."""
  for clip in range(10):
    path = tmp_path / "source" / str(9 + clip % 2) / f"{clip:04d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(strip(marked_clip(clip, 6)))
  return tmp_path / "source"


def options(folder, **changes):
  values = {"source": str(folder), "name": "clips", "data_dir": str(folder.parent / "built"), "encoding": "png"}
  return VideoFolderOptions(**values | changes)


def read_all(folder, split):
  """(class name, red, green of every frame, fps, source) of every record, sorted."""
  info = records.load_info("clips", folder.parent / "built")
  source = records.open_split(info, split)
  found = []
  for index in range(len(source)):
    record = source[index]
    video = transforms.decode_squares(record["frames"], resolution=8)
    place = (info.class_names[record["label"]], int(video[0, 0, 0, 0]), video[:, 0, 0, 1].tolist())
    found.append((*place, float(record["fps"]), record["source"].decode()))
  return sorted(found)


def manifest(folder):
  return json.loads((records.dataset_directory("clips", folder.parent / "built") / "manifest.json").read_text())


def test_every_clip_is_stored_once_with_its_class_and_source(folder):
  build_video_folder(options(folder, source_fps=12.5))
  train, test = read_all(folder, "train"), read_all(folder, "test")
  assert (len(train), len(test)) == (8, 2)
  expected = [(str(9 + c % 2), c, [0, 1, 2, 3, 4, 5], 12.5, f"{9 + c % 2}/{c:04d}.jpg") for c in range(10)]
  assert sorted(train + test) == sorted(expected)
  info = records.load_info("clips", folder.parent / "built")
  # Classes are numbers, so 9 comes before 10.
  assert info.class_names == ("9", "10")
  assert {split: lengths.tolist() for split, lengths in info.num_frames.items()} == {"train": [6] * 8, "test": [6] * 2}
  assert np.bincount(info.labels["train"]).tolist() == [4, 4]


def test_the_manifest_lists_used_and_skipped_files_with_reasons(folder, strip, marked_clip):
  (folder / "9" / "empty.mp4").write_bytes(b"")
  (folder / "9" / "noise.avi").write_bytes(os.urandom(4000))
  (folder / "10" / "short.png").write_bytes(strip(marked_clip(99, 3)))
  (folder / "loose.png").write_bytes(strip(marked_clip(98, 6)))
  build_video_folder(options(folder, min_frames=4, size=4))
  written = manifest(folder)
  assert written["clips"] == {"train": 8, "test": 2}
  by_source = {entry["source"]: entry for entry in written["sources"]}
  assert len(by_source) == 14
  used = by_source["9/0000.jpg"]
  assert (used["status"], used["class"], used["frames"], used["height"], used["width"]) == ("used", "9", 6, 8, 8)
  assert used["split"] in ("train", "test")
  skipped = {source: entry["reason"] for source, entry in by_source.items() if entry["status"] == "skipped"}
  assert skipped.keys() == {"9/empty.mp4", "9/noise.avi", "10/short.png", "loose.png"}
  assert skipped["9/empty.mp4"] == "empty file"
  assert skipped["10/short.png"] == "has 3 frames, but no clip of 4"
  assert "corrupt" in skipped["9/noise.avi"]
  assert "class" in skipped["loose.png"]


def test_without_usable_files_the_error_gives_the_first_reason(tmp_path):
  (tmp_path / "source").mkdir()
  (tmp_path / "source" / "a.mp4").write_bytes(b"")
  with pytest.raises(UserError, match=r"none of the 1 files in --source .* a\.mp4: empty file"):
    build_video_folder(options(tmp_path / "source"))
  assert list((tmp_path / "built").iterdir()) == []


def test_long_videos_are_cut_into_clips(folder):
  build_video_folder(options(folder, clip_frames=2, test_fraction=0.0))
  assert [frames for _, red, frames, _, _ in read_all(folder, "train") if red == 5] == [[0, 1], [2, 3], [4, 5]]
  assert manifest(folder)["sources"][0]["clips"] == 3


def test_folders_may_give_the_split(tmp_path, strip, marked_clip):
  for split, clip in (("train", 1), ("train", 2), ("test", 3)):
    (tmp_path / "source" / split / "a").mkdir(parents=True, exist_ok=True)
    (tmp_path / "source" / split / "a" / f"{clip}.png").write_bytes(strip(marked_clip(clip, 3)))
  build_video_folder(options(tmp_path / "source"))
  assert [red for _, red, *_ in read_all(tmp_path / "source", "train")] == [1, 2]
  assert [red for _, red, *_ in read_all(tmp_path / "source", "test")] == [3]


def test_pairs_have_one_split(folder):
  (folder / "9").rename(folder / "all")
  for path in (folder / "10").iterdir():
    path.rename(folder / "all" / path.name)
  (folder / "10").rmdir()
  build_video_folder(options(folder, split_group="pair", test_fraction=0.4))
  test = [red for _, red, *_ in read_all(folder, "test")]
  assert len(test) == 4
  assert (
    {red // 2 for red in test} == {red // 2 for red in test if red % 2} == {red // 2 for red in test if not red % 2}
  )


def test_a_zip_gives_the_same_data_set_as_its_folder(folder):
  build_video_folder(options(folder))
  from_folder = {split: read_all(folder, split) for split in ("train", "test")}
  archive = folder.parent / "clips.zip"
  with zipfile.ZipFile(archive, "w") as unwritten:
    for path in folder.rglob("*.jpg"):
      unwritten.write(path, path.relative_to(folder))
  build_video_folder(options(folder, source=str(archive), overwrite=True))
  assert {split: read_all(folder, split) for split in ("train", "test")} == from_folder


def test_an_interrupted_build_decodes_only_what_is_missing(folder, monkeypatch):
  original, staged = staging.IsolatedDecoder.stage, []

  def interrupt(self, file):
    staged.append(file)
    if len(staged) > 6:
      raise KeyboardInterrupt
    return original(self, file)

  with monkeypatch.context() as patched:
    patched.setattr(staging.IsolatedDecoder, "stage", interrupt)
    with pytest.raises(KeyboardInterrupt):
      build_video_folder(options(folder, num_workers=1))
  with pytest.raises(UserError, match="vidgen data build video_folder"):
    records.load_info("clips", folder.parent / "built")
  # One process decodes in the listed order. The decoded files are overwritten with zeros and keep size and time:
  # they must not be read again.
  files = sorted(folder.rglob("*.jpg"))
  for path in files[:6]:
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
  build_video_folder(options(folder, num_workers=1))
  assert len(files) == 10
  assert (len(read_all(folder, "train")), len(read_all(folder, "test"))) == (8, 2)
  # The decoded frames are gone with the staging folder.
  assert [path.name for path in (folder.parent / "built").iterdir()] == ["clips"]


def test_a_killed_build_is_incomplete_and_can_be_resumed(folder):
  # The third record waits until the process is killed in the middle of writing. A package that TFDS uses without
  # requiring it is made unavailable, to check that it is not needed.
  program = (
    "import sys, time\n"
    "sys.modules['importlib_resources'] = None\n"
    "from vidgen_jax.data.datasets import video_folder\n"
    "from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder\n"
    "read, reads = video_folder.load_video, []\n"
    "def slow(path):\n"
    "  video = read(path)\n"
    "  reads.append(video)\n"
    "  if len(reads) > 2: open(sys.argv[2], 'w').close(); time.sleep(60)\n"
    "  return video\n"
    "video_folder.load_video = slow\n"
    "build_video_folder(VideoFolderOptions(source=sys.argv[1], name='clips', data_dir=sys.argv[3], encoding='png'))\n"
  )
  reached, built = folder.parent / "reached", folder.parent / "built"
  command = [sys.executable, "-c", program, str(folder), str(reached), str(built)]
  with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
    deadline = time.monotonic() + 50
    while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
  assert reached.exists()
  assert list((built / ".incomplete" / "clips" / "records").rglob("*.array_record*"))
  with pytest.raises(UserError, match="is not in"):
    records.load_info("clips", built)
  build_video_folder(options(folder))
  assert (len(read_all(folder, "train")), len(read_all(folder, "test"))) == (8, 2)


def test_a_changed_file_is_decoded_again(folder, strip, marked_clip):
  build_video_folder(options(folder, test_fraction=0.0))
  (folder / "9" / "0000.jpg").write_bytes(strip(marked_clip(77, 6)))
  build_video_folder(options(folder, test_fraction=0.0, overwrite=True))
  reds = [red for _, red, *_ in read_all(folder, "train")]
  assert 77 in reds
  assert 0 not in reds


def test_concurrent_builds_of_one_name_are_refused(folder):
  built = folder.parent / "built"
  with (
    building.exclusive_build("clips", built, overwrite=False),
    pytest.raises(UserError, match="another process is building data set 'clips'"),
  ):
    build_video_folder(options(folder))


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_invalid_names_are_refused(folder, name):
  with pytest.raises(UserError, match="--name"):
    build_video_folder(options(folder, name=name))


def test_an_unwritable_folder_gives_one_line(folder):
  (folder.parent / "file").write_text("in the way")
  with pytest.raises(UserError, match=r"file.* cannot be written: .*; free space or choose another folder"):
    build_video_folder(options(folder, data_dir=str(folder.parent / "file" / "data")))


class FullDecoder(staging.Decoder):
  """Its cache is on a full disk."""

  def stage(self, file):
    raise OSError(28, "No space left on device")


def test_a_full_disk_while_decoding_gives_one_line(folder, monkeypatch):
  monkeypatch.setattr(video_folder, "Decoder", FullDecoder)
  with pytest.raises(UserError, match=r"cannot be written: No space left on device"):
    build_video_folder(options(folder))
  assert list((folder.parent / "built").iterdir()) == []


def test_a_full_disk_while_writing_records_gives_one_line(folder, monkeypatch):
  # ArrayRecord's message, seen on a file system of 3 MB.
  def full(self, **kwargs):
    raise RuntimeError(
      'Failed to finalize writing of split "train": write() failed: No space left on device; writing /x; at byte 314572'
    )

  monkeypatch.setattr(building.ClipDatasetBuilder, "download_and_prepare", full)
  with pytest.raises(UserError, match=r"cannot be written: No space left on device; free space"):
    build_video_folder(options(folder))
  monkeypatch.undo()
  build_video_folder(options(folder))
  assert len(read_all(folder, "train")) == 8


def test_too_many_unusable_videos_are_refused_and_listed(folder):
  for clip in range(4):
    (folder / str(9 + clip % 2) / f"{clip:04d}.jpg").write_bytes(b"")
  with pytest.raises(UserError, match=r"4 of 10 videos are missing, damaged or too short .* --max_skipped=0\.3"):
    build_video_folder(options(folder, max_skipped=0.3))
  listed = folder.parent / "built" / ".incomplete" / "clips" / "skipped.json"
  assert json.loads(listed.read_text()) == {f"{9 + clip % 2}/{clip:04d}.jpg": "empty file" for clip in range(4)}
  build_video_folder(options(folder, max_skipped=0.4))
  assert sum(entry["status"] == "skipped" for entry in manifest(folder)["sources"]) == 4


@pytest.mark.parametrize(
  "change",
  [
    {"max_skipped": 1.5},
    {"stride": 0},
    {"num_workers": -1},
    {"size": -1},
    {"min_frames": 0},
    {"clip_frames": -2},
    {"quality": 0},
  ],
)
def test_invalid_options_name_the_flag(folder, change):
  with pytest.raises(UserError, match=f"--{next(iter(change))}"):
    options(folder, **change)


def test_weizmann(shared_data, tmp_path):
  build_video_folder(
    VideoFolderOptions(
      source=str(shared_data / "weizmann"), name="weizmann", data_dir=str(tmp_path), split_group="pair", source_fps=25.0
    )
  )
  info = records.load_info("weizmann", tmp_path)
  assert info.class_names == ("0", "1", "3", "4")
  assert info.num_clips == {"train": 56, "test": 16}
  side = {}
  for entry in info.manifest["sources"]:
    assert entry["status"] == "used"
    number = int(entry["source"].split("/")[1].split(".")[0])
    assert side.setdefault(number // 2, entry["split"]) == entry["split"]
  assert len(side) == 36
  config = DataConfig(name="weizmann", data_dir=str(tmp_path), num_frames=16, resolution=64)
  batch = next(pipeline.eval_batches(config, "test", batch_size=2, num_clips=2))
  assert batch["video"].shape == (2, 16, 64, 64, 3)


def test_real_clips(shared_data, tmp_path):
  build_video_folder(
    VideoFolderOptions(source=str(shared_data / "clips"), name="clips", data_dir=str(tmp_path), size=64, clip_frames=16)
  )
  info = records.load_info("clips", tmp_path)
  # 280 // 16 + 32 // 16 + 164 // 16 = 17 + 2 + 10.
  assert sum(info.num_clips.values()) == 29
  assert info.fps == (25.0, 28.0, 30.0)


def test_a_single_video_is_divided_in_time(tmp_path, strip, marked_clip):
  (tmp_path / "long.png").write_bytes(strip(marked_clip(5, 23)))
  with pytest.raises(UserError, match="--split=time divides every file, but --split_group=2 groups files"):
    options(tmp_path / "long.png", split="time", split_group="2")
  build_video_folder(options(tmp_path / "long.png", split="time", clip_frames=4, test_fraction=0.4))
  train, test = (read_all(tmp_path / "long.png", split) for split in ("train", "test"))
  assert [frames for _, _, frames, *_ in train] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
  assert [frames for _, _, frames, *_ in test] == [[12, 13, 14, 15], [16, 17, 18, 19]]
  entries = [(entry["source"], entry["split"], entry["clips"]) for entry in manifest(tmp_path / "long.png")["sources"]]
  assert entries == [("long.png", "train", 3), ("long.png", "test", 2)]
  assert verify_dataset("clips", tmp_path / "built").problems == ()


def test_an_empty_test_split_is_reported_with_the_remedy(caplog):
  entry = Staged(file=SourceFile(path="a.mp4", class_name="a", split=None, stamp=""))
  for changes, remedy in (
    ({}, "--split=time divides each video in time; or add videos, or a folder test/"),
    ({"split": "time"}, "the videos are too short; lower --clip_frames"),
    ({"split_group": "8"}, "each group of --split_group=8 is needed for training; use smaller groups"),
  ):
    video_folder._warn_without_test(options(Path("x"), **changes), [entry], ["train"])
    assert remedy in caplog.messages[-1]
    assert caplog.messages[-1].endswith("or evaluate with --split=train")


def test_wide_frames_below_splits_with_other_files_next_to_them(tmp_path, caplog):
  for path, level in (("train/a/one", 10), ("train/b/two", 20), ("valid/a/three", 30), ("annotations/a/four", 40)):
    (tmp_path / "source" / path).mkdir(parents=True)
    for index in range(3):
      Image.new("RGB", (16, 8), (level, index, 200)).save(tmp_path / "source" / path / f"{index}.png")
  (tmp_path / "source" / "README.txt").write_text("words")
  build_video_folder(options(tmp_path / "source"))
  info = records.load_info("clips", tmp_path / "built")
  assert (info.class_names, dict(info.num_clips)) == (("a", "b"), {"train": 2, "validation": 1})
  clip = records.open_split(info, "validation")[0]
  assert (clip["width"], clip["height"], len(clip["frames"]), clip["source"]) == (16, 8, 3, b"valid/a/three")
  skipped = {
    entry["source"]: entry["reason"] for entry in manifest(tmp_path / "source")["sources"] if "reason" in entry
  }
  outside = "is outside of the split folders train, valid"
  assert skipped == {"README.txt": "is no video", "annotations/a/four": outside}
  assert "README.txt, annotations are not used, only train, valid" in caplog.text
  assert "has no split 'test', only train, validation (3 videos): add a folder test/ to the source" in caplog.text
  with pytest.raises(UserError, match=r"--split=time: the folders of --source \S+ give the split; omit it"):
    build_video_folder(options(tmp_path / "source", name="other", split="time"))
