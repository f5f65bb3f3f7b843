"""Verification of built data sets: an intact one has no problems, and every kind of damage is reported."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from vidgen_jax.commands import data as prepare_data
from vidgen_jax.data import building, pipeline, records, verification
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError

TRAIN = "marked-train.array_record-00000-of-00001"
TEST = "marked-test.array_record-00000-of-00001"


@pytest.fixture
def data_dir(tmp_path, marked_dataset):
  """A copy of 'marked', to be damaged: 11 train clips, 6 test clips, of 12 frames except for one of each, of 4."""
  return shutil.copytree(marked_dataset, tmp_path / "built")


@pytest.fixture
def directory(data_dir):
  return records.dataset_directory("marked", data_dir)


def problems(directory, **kwargs):
  """Problems of the data set in a folder."""
  return list(verification.verify_dataset(directory.parent.name, directory.parent.parent, **kwargs).problems)


def run(*words):
  flag_values = flags.FlagValues()
  flag_values.set_gnu_getopt(True)
  prepare_data.define_flags(flag_values)
  prepare_data.run(flag_values, flag_values(["vidgen", *map(str, words)])[1:])


def change_manifest(directory, change):
  path = directory / "manifest.json"
  manifest = json.loads(path.read_text())
  change(manifest)
  path.write_text(json.dumps(manifest))


def accept_files(directory):
  """Writes the checksums of the current files, so that only their content is reported."""
  change_manifest(directory, lambda manifest: manifest.update(files=building.file_table(directory)))


def flip(path, byte):
  """Flips the lowest bit of a byte."""
  content = bytearray(path.read_bytes())
  content[byte] ^= 1
  path.write_bytes(content)


def write_clips(data_dir, clips):
  """A data set 'made' of one split, whose clips may be damaged."""

  with building.exclusive_build("made", data_dir, overwrite=False) as staging:
    splits = {"train": ((str(number), clip) for number, clip in enumerate(clips))}
    manifest = {"builder": "shape_motion", "clips": {}, "fps": [0.0], "sources": []}
    return building.write_dataset(
      staging, manifest, class_names=["a", "b"], description="Made for a test.", splits=splits
    )


def test_an_intact_data_set_has_no_problems(data_dir, directory, capsys):
  found = verification.verify_dataset("marked", data_dir)
  assert found.problems == ()
  # 17 clips of 12 frames, except for two of 4.
  assert (found.clips, found.frames) == (17, 15 * 12 + 2 * 4)
  assert found.bytes == sum(path.stat().st_size for path in directory.iterdir() if path.name != "manifest.json")
  capsys.readouterr()
  run("verify", "marked", f"--data_dir={data_dir}")
  printed = capsys.readouterr()
  assert printed.out.startswith(f"marked: 17 clips, 188 frames, {found.bytes} bytes: no problems; ")
  assert printed.out.count("\n") == 1
  assert "17/17" in printed.err


def test_the_manifest_lists_all_other_files(directory):
  table = json.loads((directory / "manifest.json").read_text())["files"]
  assert list(table) == sorted({path.name for path in directory.iterdir()} - {"manifest.json"})
  assert {TRAIN, TEST, "index-train.npz", "index-test.npz", "dataset_info.json", "features.json"} <= set(table)
  content = (directory / TRAIN).read_bytes()
  assert table[TRAIN] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_another_process_at_another_time_writes_the_same_bytes(tmp_path, strip, marked_clip):
  # Protobuf orders maps differently in every process; zip entries may contain the time, in steps of two seconds.
  for clip in range(4):
    path = tmp_path / "source" / f"class{clip % 2}" / f"{clip}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(strip(marked_clip(clip, 3)))
  program = (
    "import sys, time\n"
    "later = time.localtime(float(sys.argv[2]))\n"
    "time.localtime = lambda *seconds: later\n"
    "from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder\n"
    "build_video_folder(VideoFolderOptions(source=sys.argv[1], name='clips', data_dir='built', num_workers=1))\n"
  )
  written = []
  for number, time in enumerate(("1e9", "1.5e9")):
    (tmp_path / str(number)).mkdir()
    subprocess.run([sys.executable, "-c", program, tmp_path / "source", time], cwd=tmp_path / str(number), check=True)
    folder = records.dataset_directory("clips", tmp_path / str(number) / "built")
    written.append({path.name: path.read_bytes() for path in folder.iterdir()})
  assert len(written[0]) == 8
  assert written[0] == written[1]


def test_a_truncated_shard(directory):
  size = (directory / TRAIN).stat().st_size
  (directory / TRAIN).write_bytes((directory / TRAIN).read_bytes()[:70_000])
  sized, unreadable = problems(directory)
  assert sized == f"{TRAIN} has 70000 bytes, not the {size} that were written"
  assert unreadable.startswith(f"{TRAIN}: 11 records cannot be read, the first is 0 (Corrupted Riegeli/records file")


def test_one_flipped_bit_of_a_record(directory):
  # Records begin at byte 64, and the first is longer than 300.
  flip(directory / TRAIN, 300)
  hashed, unreadable = problems(directory)
  assert hashed.startswith(f"{TRAIN} has changed: its SHA-256 is ")
  assert unreadable.startswith(f"{TRAIN}: 1 records cannot be read, the first is 0 (Corrupted")


def test_one_flipped_bit_of_the_padding_between_records(directory):
  flip(directory / TRAIN, 66_000)
  (hashed,) = problems(directory)
  assert hashed.startswith(f"{TRAIN} has changed")


def test_a_missing_shard(directory):
  (directory / TEST).unlink()
  missing, unreadable = problems(directory)
  assert missing == f"{TEST} is missing"
  assert "6 records cannot be read, the first is 0 (open() failed: No such file" in unreadable


def test_a_missing_index(directory):
  (directory / "index-train.npz").unlink()
  assert problems(directory) == ["index-train.npz is missing"]


def test_a_malformed_index(directory):
  (directory / "index-train.npz").write_bytes(b"PK half of it")
  accept_files(directory)
  (unreadable,) = problems(directory)
  assert unreadable.startswith("index-train.npz cannot be read: ")


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_files_of_tfds_are_reported(directory, name):
  half = (directory / name).read_bytes()[:200]
  (directory / name).write_bytes(half)
  sized, unopened = problems(directory)
  assert sized.startswith(f"{name} has 200 bytes, not the ")
  assert unopened.startswith("the records cannot be opened: ")
  with pytest.raises(UserError, match=r"data set 'marked' .* is damaged .*--overwrite"):
    records.load_info("marked", directory.parent.parent)


def test_a_stray_file(directory):
  (directory / "notes").mkdir()
  (directory / "notes" / "a.txt").write_text("mine")
  assert problems(directory) == ["notes/a.txt does not belong to the data set; remove it"]


def test_a_manifest_with_a_wrong_count(directory):
  change_manifest(directory, lambda manifest: manifest["clips"].update(train=12))
  assert problems(directory) == [
    "split 'train' has 11 by the shards, 12 by manifest.json's clips, 11 by manifest.json's sources, "
    "11 by index-train.npz's num_frames, 11 by index-train.npz's label"
  ]


def test_a_manifest_with_an_additional_source(directory):
  more = {"source": "class0/99.png", "class": "class0", "status": "used", "split": "validation", "clips": 2}
  change_manifest(directory, lambda manifest: manifest["sources"].append(more))
  assert problems(directory) == [
    "split 'validation' has 0 by the shards, 0 by manifest.json's clips, 2 by manifest.json's sources"
  ]


@pytest.mark.parametrize(
  ("column", "place", "value", "message"),
  [
    # The test clips are 11 to 16, of 12 frames except for clip 14; odd clips have the label 1.
    ("label", 0, 7, r"record 0 of split 'test' has label [01], 7 by the index"),
    ("num_frames", 5, 99, r"record 5 of split 'test' has num_frames (4|12), 99 by the index"),
  ],
)
def test_an_index_that_differs_from_a_record(directory, column, place, value, message):
  index = records.read_index(directory, "test")
  index[column][place] = value
  np.savez(directory / "index-test.npz", **index)
  accept_files(directory)
  (problem,) = problems(directory)
  assert re.fullmatch(message, problem)


def test_an_index_that_is_too_short(directory):
  index = records.read_index(directory, "test")
  np.savez(directory / "index-test.npz", **{name: values[:-1] for name, values in index.items()})
  accept_files(directory)
  (problem,) = problems(directory)
  assert problem.endswith("5 by index-test.npz's num_frames, 5 by index-test.npz's label")


def test_undecodable_frames_and_frames_of_another_size(tmp_path, strip, marked_clip):
  # A strip of one frame is an image of that frame.
  small, large = strip(marked_clip(1, 1, size=8)), strip(marked_clip(1, 1, size=10))
  facts = {"label": 0, "fps": 0.0, "source": "a test", "height": 8, "width": 8}
  half = small[: len(small) // 2]
  folder = write_clips(tmp_path, [{"frames": [small, b"no image", half], **facts}, {"frames": [small, large], **facts}])
  place = 0 if records.read_index(folder, "train")["num_frames"][0] == 3 else 1
  found = sorted(problems(folder), key=lambda problem: "pixels" in problem)
  assert len(found) == 2
  assert found[0].startswith(f"record {place} of split 'train' frame 1 cannot be decoded (")
  assert found[0].endswith("), and 1 more")
  assert found[1] == f"record {1 - place} of split 'train' frame 1 has 10x10 pixels, the record says 8x8"
  assert problems(folder, decode=False) == []


def test_a_manifest_without_checksums_is_refused(data_dir, directory):
  change_manifest(directory, lambda manifest: manifest.pop("files"))
  with pytest.raises(UserError, match=r"lists no checksums, .*older version; .*vidgen data build video_folder"):
    verification.verify_dataset("marked", data_dir)


def test_a_malformed_manifest_is_refused(data_dir, directory):
  path = directory / "manifest.json"
  used = b'{"files": {}, "clips": {}, "sources": [{"status": "used", "split": "train"}]}'
  text = b'{"files": {"a": {"bytes": "3", "sha256": "0"}}, "clips": {}, "sources": []}'
  for content in (b"", b"{", b"[]", b'{"files": {"a": 3}}', b'{"files": {}, "clips": []}', used, text, b"\xff\xfe"):
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"manifest.json is damaged .*--overwrite"):
      verification.verify_dataset("marked", data_dir)
  path.unlink()
  with pytest.raises(UserError, match=r"is not in .*; build it with: vidgen data build"):
    verification.verify_dataset("marked", data_dir)


def test_the_command_shows_twenty_problems_their_number_and_the_remedy(data_dir, directory, capsys):
  for number in range(23):
    (directory / f"stray{number:02d}").touch()
  with pytest.raises(UserError) as error:
    run("verify", "marked", f"--data_dir={data_dir}", "--nodecode")
  expected = [f"stray{number:02d} does not belong to the data set; remove it" for number in range(20)]
  assert capsys.readouterr().out.splitlines() == expected
  message = str(error.value)
  assert "is damaged; problems: 23, the first: stray00 does not belong" in message
  remedy = f"vidgen data build video_folder --source=FOLDER --name=marked --data_dir={data_dir} --overwrite"
  assert message.endswith(f"build it again with: {remedy}")
  assert "\n" not in message
  with pytest.raises(UserError, match="--decode does not apply"):
    run("inspect", "marked", "--nodecode")


@pytest.mark.parametrize("content", ["{}", "[]", '{"fps": [], "sources": [1]}', "half"])
def test_a_damaged_manifest_gives_one_line(directory, content):
  (directory / "manifest.json").write_text(content)
  with pytest.raises(UserError, match=r"^data set 'marked' at .* is damaged .*--overwrite$"):
    records.load_info("marked", directory.parent.parent)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_gives_one_line_in_threads_and_workers(data_dir, directory, workers):
  flip(directory / TRAIN, 300)
  flip(directory / TEST, 300)
  config = DataConfig(name="marked", data_dir=str(data_dir), num_frames=4, resolution=8, workers=workers)
  iterator = pipeline.train_batches(config, batch_size=11, microbatches=1, seed=0)
  with pytest.raises(UserError) as error:
    next(iterator)
  # Grain adds a note to the error, which is not part of its message.
  message = str(error.value)
  assert "\n" not in message
  assert message.startswith(f"record 0 of data set 'marked' cannot be read from {directory / TRAIN} (Corrupted Riegeli")
  assert f"list all damage with: vidgen data verify marked --data_dir={data_dir}; build it again" in message
  if not workers:
    with pytest.raises(UserError, match=r"record 0 of data set 'marked' cannot be read from .*marked-test"):
      list(pipeline.eval_batches(config, "test", batch_size=2, num_clips=None))


def test_a_missing_shard_gives_one_line(data_dir, directory):
  (directory / TRAIN).unlink()
  config = DataConfig(name="marked", data_dir=str(data_dir), num_frames=4, resolution=8)
  with pytest.raises(UserError, match=r"cannot be read from .*marked-train.* \(open\(\) failed: No such file"):
    next(pipeline.train_batches(config, batch_size=2, microbatches=1, seed=0))
