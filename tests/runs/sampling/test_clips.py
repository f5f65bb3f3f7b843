"""Clips to be made: of several classes, and from nothing."""

import numpy as np
import pytest

from vidgen_jax.data.config import DataConfig
from vidgen_jax.runs.sampling.clips import Clips, empty_clips


@pytest.mark.parametrize("known", [True, False])
def test_each_clip_is_made_in_every_class(known):
  video = np.random.default_rng(0).integers(256, size=(2, 3, 4, 4, 3), dtype=np.uint8)
  clips = Clips(conditioning=video[:, :1], truth=video if known else None, label=np.array([7, 8], np.int32))
  found = clips.of_classes([2, 0, 1])
  assert found.label.tolist() == [2, 2, 0, 0, 1, 1]
  assert found.label.dtype == np.int32
  np.testing.assert_array_equal(found.conditioning, video[[0, 1, 0, 1, 0, 1], :1])
  assert (found.truth is not None) == known
  if known:
    np.testing.assert_array_equal(found.truth, video[[0, 1, 0, 1, 0, 1]])


def test_empty_clips_have_a_size_and_no_frame():
  clips = empty_clips(DataConfig(name="none", num_frames=5, resolution=16, channels=1), num_clips=3)
  assert (clips.conditioning.shape, clips.conditioning.dtype) == ((3, 0, 16, 16, 1), np.uint8)
  assert (clips.label.tolist(), clips.truth, len(clips)) == ([0, 0, 0], None, 3)
