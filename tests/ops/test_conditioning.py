"""Indices of frames, by hand."""

import numpy as np
import pytest

from vidgen_jax.ops.conditioning import are_leading, frames_needed, generated_indices, put_frames, take_frames


@pytest.mark.parametrize(
  ("conditioning_indices", "generated", "needed", "leading"),
  [
    ((), (0, 1, 2, 3), 1, True),
    ((0, 1), (2, 3), 2, True),
    ((0, 3), (1, 2), 4, False),
    ((2,), (0, 1, 3), 3, False),
    ((0, 1, 2, 3), (), 4, True),
  ],
)
def test_a_clip_of_four_frames(conditioning_indices, generated, needed, leading):
  assert generated_indices(conditioning_indices, 4) == generated
  assert frames_needed(conditioning_indices) == needed
  assert are_leading(conditioning_indices) == leading


def test_frames_are_taken_from_batches_and_micro_batches():
  videos = np.arange(2 * 3 * 4).reshape(2, 3, 4, 1, 1, 1)
  assert take_frames(videos, (0, 3))[1, 2, :, 0, 0, 0].tolist() == [20, 23]
  assert take_frames(videos[0], (1,))[:, :, 0, 0, 0].tolist() == [[1], [5], [9]]
  none = take_frames(videos[0].astype(np.uint8), ())
  assert (none.shape, none.dtype) == ((3, 0, 1, 1, 1), np.uint8)


def test_frames_are_inserted_at_their_indices():
  videos = np.zeros((2, 4, 1, 1, 1))
  put = put_frames(videos, np.array([[1, 2], [3, 4]]).reshape(2, 2, 1, 1, 1), (0, 2))
  assert put[..., 0, 0, 0].tolist() == [[1, 0, 2, 0], [3, 0, 4, 0]]
  assert not videos.any()
  assert put_frames(put, np.zeros((2, 0, 1, 1, 1)), ()).tolist() == put.tolist()
