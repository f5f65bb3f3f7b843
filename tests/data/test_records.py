"""Random access to stored clips, compared with TFDS's own decoding."""

import dataclasses

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from vidgen_jax.data import records
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError


def test_a_clip_equals_what_tfds_decodes(marked_dataset):
  info = records.load_info("marked", marked_dataset)
  clips = records.open_split(info, "train")
  decoded = tfds.builder_from_directory(info.directory).as_data_source(split="train")
  assert len(clips) == len(decoded) == 11
  for index, expected in enumerate(decoded):
    clip = clips[index]
    assert clip | {"frames": list(clip["frames"])} == expected
  assert records.parse_clip(clips.read(3)) == clips[3]


def test_the_hash_is_that_of_the_clips_whatever_the_name(marked_dataset):
  info = records.load_info("marked", marked_dataset)
  files = {name.replace("marked-", "other-"): facts for name, facts in info.manifest["files"].items()}
  renamed = dataclasses.replace(info, name="other", manifest={"files": files | {"features.json": {"sha256": "0"}}})
  assert renamed.content_hash == info.content_hash != ""
  shard = next(name for name in files if ".array_record" in name)
  changed = dataclasses.replace(renamed, manifest={"files": files | {shard: {"sha256": "0"}}})
  assert changed.content_hash != info.content_hash


def test_a_source_is_a_sequence(marked_dataset):
  source = records.open_split(records.load_info("marked", marked_dataset), "train")
  assert [record["label"] for record in source] == [source[index]["label"] for index in range(11)]
  with pytest.raises(IndexError, match="record 11 of 11"):
    source[11]
  assert source.shard(10) == "marked-train.array_record-00000-of-00001"
  assert repr(source) == "ClipSource(marked/train, clips=11)"


def test_short_clips_are_left_out(marked_dataset):
  config = DataConfig(name="marked", data_dir=str(marked_dataset), num_frames=5, resolution=4)
  clips = records.open_clips(config, "train")
  # 11 clips, one of which has 4 frames.
  assert len(clips) == 10
  assert {len(clip["frames"]) for clip in clips} == {12}
  with pytest.raises(UserError, match="no split 'validation', only test, train"):
    records.open_clips(config, "validation")


@pytest.mark.parametrize(
  ("manifest", "lossy"),
  [
    ({"stored": {"encoding": "jpeg", "quality": 95, "lossy": True}}, True),
    ({"stored": {"encoding": "png", "lossy": False}}, False),
    # Manifests of older versions.
    ({"options": {"encoding": "jpeg", "quality": 100}}, True),
    ({"options": {"encoding": "png", "quality": 95}}, False),
    ({"options": {"seed": 0}, "generated": {"encoding": "png"}}, False),
  ],
)
def test_jpeg_is_lossy(marked_dataset, manifest, lossy):
  info = dataclasses.replace(records.load_info("marked", marked_dataset), manifest=manifest)
  assert info.is_lossy is lossy


def _record(**changes):
  features = {"frames": [b"a", b"b"], "fps": [25.0], "source": [b"x"], "label": [7], "height": [7], "width": [7]}
  example = tf_example_pb2.Example()
  for name, values in (features | changes).items():
    if values is not None:
      kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
      getattr(example.features.feature[name], kind).value.extend(values)
  return example.SerializeToString()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"frames": None}, "no frames"),
    ({"label": None, "fps": None}, "no fps, label"),
    ({"frames": [1]}, "no frames"),
    ({"label": [1, 2]}, "too many values"),
    ({"label": [b"a"]}, "not enough values"),
  ],
)
def test_a_record_of_something_else_is_refused(changes, message):
  assert records.parse_clip(_record())["label"] == 7
  with pytest.raises(ValueError, match=message):
    records.parse_clip(_record(**changes))
