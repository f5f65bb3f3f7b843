"""Records that are taken apart here, beside TFDS's own decoding of them."""

import numpy as np
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


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"frames": None}, "no frames"),
    ({"label": None, "fps": None}, "no fps, label"),
    ({"frames": np.array([1])}, "no bytes"),
    ({"label": np.array([1, 2])}, "too many values"),
  ],
)
def test_a_record_of_something_else_is_refused(changes, message):
  whole = {"frames": [b"a", b"b"], "fps": np.array([25.0], np.float32), "source": [b"x"]}
  whole |= {name: np.array([7]) for name in ("label", "height", "width")}
  assert stored_clips.parse_clip(example(whole))["label"] == 7
  features = {name: value for name, value in (whole | changes).items() if value is not None}
  with pytest.raises(ValueError, match=message):
    stored_clips.parse_clip(example(features))
