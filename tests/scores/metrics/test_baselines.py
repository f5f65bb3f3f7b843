"""Clips of the baselines, by hand."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics import baselines


def _clip(*values: int) -> np.ndarray:
  """uint8[1, T, 1, 1, 1]."""
  return np.array(values, np.uint8).reshape(1, -1, 1, 1, 1)


@pytest.mark.parametrize(
  ("conditioning_indices", "expected"),
  [
    ((0, 1, 2), [1, 2, 3, 3, 3, 3]),
    ((0, 5), [1, 1, 1, 1, 1, 6]),
    ((2, 4), [3, 3, 3, 3, 5, 5]),  # the first conditioning frame also fills the frames before it
    ((5,), [6, 6, 6, 6, 6, 6]),
  ],
)
def test_copy_last_by_hand(conditioning_indices, expected):
  found = baselines.copy_last(_clip(1, 2, 3, 4, 5, 6), conditioning_indices)
  assert found.ravel().tolist() == expected
  assert found.dtype == np.uint8


@pytest.mark.parametrize(
  ("conditioning_indices", "expected"),
  [
    # From 10 to 50 in four frames; the frames in between are not read, nor is the first conditioning frame.
    ((0, 1), [99, 10, 20, 30, 40, 50]),
    # From 99 to 50 in five frames of 9.8: 89.2, 79.4, 69.6, 59.8.
    ((0, 5), [99, 89, 79, 70, 60, 50]),
    # 10 fills frame 0; to 7 in two frames, 8.5 rounds to even; then to 50 in two frames, 28.5 rounds to even.
    ((1, 3), [10, 10, 8, 7, 28, 50]),
    ((5,), [50] * 6),
    ((0, 1, 2, 3, 4, 5), [99, 10, 7, 7, 7, 50]),
  ],
)
def test_cross_fade_by_hand(conditioning_indices, expected):
  assert baselines.cross_fade(_clip(99, 10, 7, 7, 7, 50), conditioning_indices).ravel().tolist() == expected


def test_cross_fade_does_not_wrap_around():
  # 255 -> 0 in two frames: 127.5 rounds to even.
  assert baselines.cross_fade(_clip(255, 3, 0), (0, 2)).ravel().tolist() == [255, 128, 0]


@pytest.mark.parametrize("conditioning_indices", [(0, 1), (0, 4), (2,), ()])
def test_black_and_noise_keep_the_conditioning_frames_only(conditioning_indices):
  video = np.random.default_rng(0).integers(1, 256, (2, 5, 4, 5, 3), dtype=np.uint8)
  conditioning = list(conditioning_indices)
  generated = [frame for frame in range(5) if frame not in conditioning]
  black = baselines.black(video, conditioning_indices)
  noise = baselines.noise(video, conditioning_indices, np.random.default_rng(7))
  for clips in (black, noise):
    assert (clips.shape, clips.dtype) == (video.shape, np.uint8)
    np.testing.assert_array_equal(clips[:, conditioning], video[:, conditioning])
  assert not black[:, generated].any()
  expected = np.random.default_rng(7).integers(256, size=(2, len(generated), 4, 5, 3), dtype=np.uint8)
  np.testing.assert_array_equal(noise[:, generated], expected)


@pytest.mark.parametrize(
  ("conditioning_indices", "expected"),
  [
    ((0, 1), [40, 30, 30, 30]),  # prediction: copies
    ((0, 3), [40, 30, 20, 10]),  # inbetweening: a cross-fade
    ((0, 2), [40, 40, 20, 20]),  # the last frame is unknown
    ((), [0, 0, 0, 0]),
  ],
)
def test_simplest_guess_uses_conditioning_frames_only(conditioning_indices, expected):
  assert baselines.simplest_guess(_clip(40, 30, 20, 10), conditioning_indices).ravel().tolist() == expected


def test_flow_interpolation_follows_known_motion():
  """A wide stripe moves two pixels per frame; frames 0, 4 and 6 of eight are conditioning frames."""
  video = np.full((1, 8, 4, 32, 3), 40, np.uint8)
  for t in range(8):
    video[:, t, :, 4 + 2 * t : 12 + 2 * t] = 220

  def estimate(first, last):
    left = [int(np.argmax(np.asarray(image)[0, 0, :, 0] > 0)) for image in (first, last)]
    return np.broadcast_to(np.array([left[1] - left[0], 0], np.float32), (*first.shape[:3], 2))

  found = baselines.flow_interpolation(video, (0, 4, 6), estimate)
  np.testing.assert_array_equal(found[:, 7], video[:, 6])
  np.testing.assert_allclose(found[:, :7].astype(int), video[:, :7], atol=1)


@pytest.mark.parametrize(
  ("conditioning_indices", "between"), [((0, 5), True), ((2, 4), True), ((0, 1), False), ((3,), False), ((), False)]
)
def test_frames_between(conditioning_indices, between):
  assert baselines.has_frames_between(conditioning_indices, 6) == between
