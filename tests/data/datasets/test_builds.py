"""Builds of the miniatures of all published data sets."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from tests.data.datasets.listings import PUBLISHED, build, levels
from tests.data.datasets.miniatures import MINIATURES
from vidgen_jax.data import verification


@dataclasses.dataclass(frozen=True)
class Built:
  """Expected content of a miniature: number of clips by split, and the levels of one clip."""

  clips: Mapping[str, int]
  class_names: tuple[str, ...]
  fps: float
  some_clip: tuple[str, list[int]]
  skipped: int = 0


_KINETICS = Built(
  clips={"train": 3, "validation": 1},
  class_names=("ironing", 'playing "catch, or" frisbee', "springboard diving"),
  fps=25.0,
  some_clip=("validation", [20, 220]),
  skipped=1,
)
BUILT = {
  # 512 * 7 = 23 * 150 + 134.
  "bair": Built({"train": 10, "test": 2}, ("unlabelled",), 0.0, ("train", [134, 154, 174])),
  "jester": Built(
    {"train": 2, "test": 1}, ("Drumming Fingers", "No gesture", "Swiping Left"), 12.0, ("train", [100, 120, 140]), 1
  ),
  "kinetics400": _KINETICS,
  "kinetics600": _KINETICS,
  "kinetics700": _KINETICS,
  "kth": Built(
    {"train": 2, "validation": 2, "test": 2},
    ("boxing", "handclapping", "handwaving", "jogging", "running", "walking"),
    25.0,
    ("validation", [20, 40, 60, 80]),
    599 - 4,
  ),
  "moving_mnist": Built({"train": 27, "test": 3}, ("unlabelled",), 0.0, ("test", list(range(189, 209)))),
  "mug": Built({"train": 9, "test": 2}, ("anger", "happiness"), 19.0, ("train", [40, 200])),
  "ucf101": Built({"train": 11, "test": 2}, ("Archery", "Yo"), 25.0, ("test", [40, 80, 120]), 1),
  "weizmann": Built(
    {"train": 3, "test": 2},
    ("bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2"),
    25.0,
    ("test", [200, 220]),
    93 - 5,
  ),
}


def test_only_kinetics_is_stored_with_loss_by_default():
  encodings = {name: dataset.options_type.encoding for name, dataset in PUBLISHED.items()}
  assert {name for name, encoding in encodings.items() if encoding != "png"} == {
    f"kinetics{n}" for n in (400, 600, 700)
  }


def test_every_data_set_has_a_miniature():
  assert set(MINIATURES) == set(BUILT) == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(BUILT))
def test_a_miniature_is_built_and_verified(name, tmp_path):
  info, manifest = build(name, MINIATURES[name](tmp_path / "source"), "--size=16")
  expected = BUILT[name]
  assert dict(info.num_clips) == dict(expected.clips)
  assert info.class_names == expected.class_names
  assert info.fps == (expected.fps,)
  split, frames = expected.some_clip
  assert any(len(clip) == len(frames) and np.allclose(clip, frames, atol=4) for clip in levels(info, split))
  assert sum(entry["status"] == "skipped" for entry in manifest["sources"]) == expected.skipped
  # Image folders do not contain their rate, and Kinetics is resampled.
  assert manifest["source_fps"] == [expected.fps]
  assert manifest["options"]["fps"] == (25.0 if name.startswith("kinetics") else 0.0)
  assert manifest["stored"] == {"encoding": "png", "lossy": False}
  assert (manifest["builder"], manifest["split_rule"]) == (name, next(iter(PUBLISHED[name].split_rules)))
  assert verification.verify_dataset(name, tmp_path / "built").problems == ()
