"""Speed and memory of feature extraction."""

import numpy as np

from benchmarks import extraction


def test_random_clips_are_windows_into_one_pool():
  clips = extraction.RandomClips(1000, (4, 2, 2, 3))
  first, second = clips.batches(3, indices=[0, 1, 4, 2])
  assert (first.shape, second.shape) == ((3, 4, 2, 2, 3), (1, 4, 2, 2, 3))
  np.testing.assert_array_equal(first[0, 1:], first[1, :-1])
  np.testing.assert_array_equal(first[0], first[2])  # the pool has four windows


def test_a_feature_network_is_measured():
  weights = extraction.random_weights("r3d18", {"num_classes": 101, "width": 2}, (5, 16, 16, 3))
  figures = extraction.measure(weights, clip_shape=(5, 16, 16, 3), num_clips=90, batch_size=8)
  values = {figure.name: figure.value for figure in figures}
  assert values["clips"] > 0
  assert values["peak memory, all clips"] >= values["peak memory, few clips"] > 10
  assert values["all / few"] == values["peak memory, all clips"] / values["peak memory, few clips"]
