"""Pairs of clips by their names, derived by hand."""

import numpy as np
import pytest

from vidgen_jax.commands.compare import _paired_scores
from vidgen_jax.scores.clip_sets import ClipOptions, open_clips
from vidgen_jax.scores.clip_sets.pairing import pair_clips


@pytest.mark.parametrize(
  ("real", "fake", "order"),
  [
    (["a.mp4", "b.mp4", "c.mp4"], ["c.gif", "a.gif", "b.gif"], [1, 2, 0]),
    (["x/1.mp4", "y/1.mp4"], ["y/1.png", "x/1.png"], [1, 0]),
    (["x/a.mp4", "y/b.mp4"], ["1/b.gif", "2/a.gif"], [1, 0]),  # Folders differ, names do not.
    (["d.npy[0]", "d.npy[1]", "e.npy"], ["e.npy", "d.npz[1]", "d.npz[0]"], [2, 1, 0]),
    (["clip_1", "clip_2"], ["clip_2.mp4", "clip_1.mp4"], [1, 0]),  # Folders of frames.
  ],
)
def test_equal_names_are_pairs(real, fake, order, caplog):
  assert pair_clips(real, fake) == order
  assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
  ("real", "fake", "warning"),
  [
    (["a.mp4", "b.mp4"], ["a.gif", "x.gif"], "b.mp4 is compared with x.gif"),
    (["a.mp4", "a.avi"], ["a.mp4", "a.webm"], ""),  # Two files of one name.
    (["x/1.mp4", "y/1.mp4"], ["p/1.mp4", "q/1.mp4"], "x/1.mp4 is compared with p/1.mp4"),
    (["mine/test[0]", "mine/test[1]"], ["s.npz[0]", "s.npz[1]"], ""),
    (["a.mp4", "b.mp4"], ["s.npz[0]", "s.npz[1]"], ""),
    (["one.npy"], ["two.npy"], ""),
  ],
)
def test_other_names_are_paired_in_order(real, fake, warning, caplog):
  assert pair_clips(real, fake) == list(range(len(real)))
  warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
  assert len(warnings) == bool(warning)
  assert all(warning in message for message in warnings)


def test_scores_are_those_of_the_pairs(tmp_path):
  clips = {name: np.full((3, 16, 16, 3), level, np.uint8) for name, level in (("a", 10), ("b", 90), ("c", 200))}
  for folder, names in (("real", {"a": "a", "b": "b", "c": "c"}), ("fake", {"a": "2/a", "b": "3/b", "c": "1/c"})):
    for name, path in names.items():
      (tmp_path / folder / path).parent.mkdir(parents=True, exist_ok=True)
      np.save(tmp_path / folder / f"{path}.npy", clips[name])
  real, fake = (open_clips(tmp_path / folder, ClipOptions()) for folder in ("real", "fake"))
  assert fake.clip_names == ["1/c.npy", "2/a.npy", "3/b.npy"]
  common = {"split": "", "num_clips": 3, "clip": "", "window": ""}
  values = {score.metric: score.value for score in _paired_scores(real, fake, common, None)}
  assert values["psnr"] == 80.0
