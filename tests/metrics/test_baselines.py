import numpy as np
import pytest

from vidgen_jax.metrics.baselines import cross_fade


def test_cross_fade_by_hand():
  # From 10 to 50 in four frames: 20, 30, 40, 50; the frames in between are not looked at.
  given = np.full((1, 2, 1, 1, 1), 10, np.uint8)
  given[:, 0] = 99
  truth = np.array([7, 7, 7, 50], np.uint8).reshape(1, 4, 1, 1, 1)
  np.testing.assert_array_equal(cross_fade(given, truth).ravel(), [20, 30, 40, 50])
  # 255 -> 0 in two frames: 127.5 rounds to even, nothing wraps around.
  down = cross_fade(np.full((1, 1, 1, 1, 1), 255, np.uint8), np.zeros((1, 2, 1, 1, 1), np.uint8))
  np.testing.assert_array_equal(down.ravel(), [128, 0])


def test_cross_fade_refuses_what_it_cannot_fade():
  frames = np.zeros((1, 1, 2, 2, 3), np.uint8)
  with pytest.raises(TypeError, match="uint8"):
    cross_fade(frames.astype(np.float32), frames)
  with pytest.raises(ValueError, match="at least 1 frame"):
    cross_fade(frames[:, :0], frames)
