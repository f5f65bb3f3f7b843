"""Records that are taken apart here, beside TFDS's own decoding of them."""

import pytest
import tensorflow_datasets as tfds

from tests.tfrecords import example
from vidgen_jax.data import sources, stored_clips


def test_a_clip_is_what_tfds_decodes(marked_dataset):
  info = sources.load_info("marked", marked_dataset)
  clips = sources.open_split(info, "train")
  decoded = tfds.builder_from_directory(info.directory).as_data_source(split="train")
  assert len(clips) == len(decoded) == 11
  for index, expected in enumerate(decoded):
    clip = clips[index]
    assert {name: type(value) for name, value in clip.items() if name != "frames"} == {
      name: type(value) for name, value in expected.items() if name != "frames"
    }
    assert clip | {"frames": list(clip["frames"])} == expected
  assert set(clip) == {"frames", "label", "fps", "source", "height", "width"}
  assert stored_clips.parse_clip(clips.read(3))["source"] == clips[3]["source"]


def test_a_record_of_something_else_is_refused():
  with pytest.raises(ValueError, match="no bytes"):
    stored_clips.parse_clip(example({"label": [b"1"]}))
