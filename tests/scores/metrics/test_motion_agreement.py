"""Agreement of motion fields with a square on a known path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.trivd.motion import combine_flows, expected_flow
from vidgen_jax.scores.metrics import motion_agreement
from vidgen_jax.scores.metrics.motion_agreement import (
  compare_motion,
  compare_vectors,
  displacements,
  drift,
  mean_motion,
  motion_baselines,
)
from vidgen_jax.scores.metrics.trajectory import object_centroid

SIZE = 24
# (row, column) of the square's first pixel: two pixels right, one up, no motion, one down and one left, missing.
PATH = ((8, 4), (8, 6), (7, 6), (7, 6), (8, 5), None, (12, 12))
MOTIONS = ((2, 0), (0, -1), (0, 0), (-1, 1))
"""(dx, dy) from each frame to the next, until the square is missing."""


def _clip(path=PATH) -> np.ndarray:
  """uint8[1, T, SIZE, SIZE, 3]: a blue square of side 4."""
  video = np.zeros((1, len(path), SIZE, SIZE, 3), np.uint8)
  for frame, place in enumerate(path):
    if place is not None:
      video[0, frame, place[0] : place[0] + 4, place[1] : place[1] + 4, 2] = 200
  return video


def _field(motions) -> np.ndarray:
  """float32[1, F, SIZE, SIZE, 2]: in each frame the same motion everywhere."""
  field = np.asarray(motions, np.float32)[None, :, None, None]
  return np.broadcast_to(field, (1, len(motions), SIZE, SIZE, 2))


def test_displacements_are_columns_then_rows():
  moved, known = displacements(object_centroid(_clip()), range(1, 7))
  np.testing.assert_allclose(moved[0, :4], MOTIONS, atol=1e-5)
  np.testing.assert_array_equal(known, [[True] * 4 + [False] * 2])
  assert not displacements(object_centroid(_clip()), (0,))[1].any()


def test_mean_motion_is_weighted_by_the_brightness_of_the_object():
  video = _clip()[:, 1:3]
  flow = np.full((1, 2, SIZE, SIZE, 2), 100.0, np.float32)
  flow[0, 0, 8:12, 6:10] = (2.0, 0.0)
  flow[0, 1, 7:11, 6:10] = (0.0, -1.0)
  motion, seen = mean_motion(flow, video)
  np.testing.assert_allclose(motion, [[(2.0, 0.0), (0.0, -1.0)]], atol=1e-6)
  assert seen.all()
  # Half of the square has half the brightness and no motion: (2 * 200 + 0 * 100) / 300.
  video[0, 0, 8:12, 8:10, 2] = 100
  flow[0, 0, 8:12, 8:10] = 0.0
  np.testing.assert_allclose(mean_motion(flow, video)[0][0, 0], [4 / 3, 0.0], atol=1e-6)
  motion, seen = mean_motion(flow, np.zeros_like(video))
  np.testing.assert_array_equal(motion, np.zeros((1, 2, 2)))
  assert not seen.any()


@pytest.mark.parametrize("turn", [0, 30, 90, 180])
def test_a_field_turned_by_an_angle_is_off_by_that_angle(turn):
  c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
  turned = [(0.5 * (c * dx - s * dy), 0.5 * (s * dx + c * dy)) for dx, dy in (*MOTIONS, (1, 0), (1, 0))]
  found = compare_motion(_field(turned), _clip(), _clip(), range(1, 7))
  assert found.angle == pytest.approx(turn, abs=0.05)
  assert found.cosine == pytest.approx(c, abs=1e-5)
  assert found.length_ratio == pytest.approx(0.5, abs=1e-5)
  assert (found.frames, found.still, found.absent) == (3, 1, 2)


def test_motion_of_length_zero_counts_as_90_degrees_off():
  true = np.array([[[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]])
  found = compare_vectors(np.array([[[2.0, 0.0], [0.0, 0.0], [0.0, 5.0]]]), true, known=np.ones((1, 3), bool))
  # 0, 90 and 90 degrees; lengths 7 over 6; means (2, 5) / 3 and (4, 2) / 3.
  correlation = (2 - 18 / 3) / np.sqrt((29 - 29 / 3) * (14 - 20 / 3))
  assert found == pytest.approx((1 / 3, 60.0, 7 / 6, correlation, 3, 0, 0))


def test_threshold_includes_motion_equal_to_it(monkeypatch):
  def compared(least_motion):
    monkeypatch.setattr(motion_agreement, "LEAST_MOTION", least_motion)
    return compare_motion(_field([(1, 0)] * 6), _clip(), _clip(), range(1, 7))

  assert compared(1.0).frames == 3
  # The diagonal step has length 1.41.
  assert compared(1.2).frames == 2
  nothing = compared(2.5)
  assert (nothing.frames, nothing.still, nothing.absent) == (0, 4, 2)
  assert np.isnan([nothing.cosine, nothing.angle, nothing.length_ratio]).all()


def test_flow_is_read_at_the_generated_object_and_compared_with_the_true_motion():
  truth = _clip()
  generated = np.roll(truth, 5, axis=2)  # lower by five rows
  generated[0, 4] = 0  # and missing in a frame
  flow = np.zeros((1, 6, SIZE, SIZE, 2), np.float32)
  for index, motion in enumerate(MOTIONS):
    row, column = PATH[index + 1]
    flow[0, index, row + 5 : row + 9, column : column + 4] = motion
  found = compare_motion(flow, generated, truth, range(1, 7))
  assert found.angle == pytest.approx(0, abs=0.05)
  assert (found.frames, found.still, found.absent) == (2, 1, 3)


def test_kernels_that_move_the_square_agree_at_every_resolution():
  # The content goes right by 1 of 24 pixels, and by half a pixel at the half resolution: 1 pixel of the frame.
  path = [(8, 2 + 2 * frame) for frame in range(5)]
  video = _clip(path)

  def kernels(share: float, size: int) -> jax.Array:
    """The left neighbour with weight `share`, else the pixel itself, for four frames."""
    kernel = share * jax.nn.one_hot(3, 9) + (1 - share) * jax.nn.one_hot(4, 9)
    return jnp.broadcast_to(kernel, (1, 4, size, size, 9))

  flow = combine_flows([expected_flow(kernels(0.5, 12)), expected_flow(kernels(1.0, 24))], size=(SIZE, SIZE))
  found = compare_motion(np.asarray(flow), video, video, range(1, 5))
  assert (found.cosine, found.angle, found.length_ratio) == pytest.approx((1.0, 0.0, 1.0), abs=0.05)
  assert found[4:] == (4, 0, 0)


def test_baselines_score_their_expected_values():
  rng = np.random.default_rng(0)
  clips = np.concatenate([_clip([(r, c) for r, c in rng.integers(0, 20, (9, 2))]) for _ in range(40)])
  found = motion_baselines(clips, range(1, 9), seed=3)
  assert found["zero"][:4] == (0.0, 90.0, 0.0, 0.0)
  assert found["truth"][:4] == pytest.approx((1.0, 0.0, 1.0, 1.0), abs=1e-4)
  assert abs(found["random"].correlation) < 4 / np.sqrt(300)
  # More than 300 angles, uniform in 0..180, which has standard deviation 52: within 4 standard errors of 90.
  assert found["random"].frames > 300
  assert found["random"].angle == pytest.approx(90.0, abs=4 * 52 / np.sqrt(300))
  assert len({result[4:] for result in found.values()}) == 1
  assert found == motion_baselines(clips, range(1, 9), seed=3)
  assert found["random"] != motion_baselines(clips, range(1, 9), seed=4)["random"]


def test_constant_baseline_has_the_best_direction():
  # Twice to the right, once down: the best direction is (2, 1) / sqrt(5), and the mean cosine sqrt(5) / 3.
  found = motion_baselines(_clip(((4, 4), (4, 6), (4, 10), (5, 10), (5, 10))), range(1, 5), seed=0)["constant"]
  assert found.cosine == pytest.approx(np.sqrt(5) / 3, abs=1e-3)
  assert (found.frames, found.still) == (3, 1)
  angles = np.degrees([np.arctan2(1, 2), np.arctan2(1, 2), np.arctan2(2, 1)])
  assert found.angle == pytest.approx(angles.mean(), abs=0.1)


def test_correlation_by_hand_ignores_common_motion():
  true = np.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]])
  predicted = np.array([[[2.0, 1.0], [0.0, 1.0], [-2.0, -2.0]]])
  known = np.ones((1, 3), bool)
  # Both have mean 0: (2 + 1 + 4) / sqrt(4 * 14).
  assert compare_vectors(predicted, true, known=known).correlation == pytest.approx(7 / np.sqrt(56))
  moved = compare_vectors(predicted + np.array([5.0, -3.0]), true, known=known)
  assert moved.correlation == pytest.approx(7 / np.sqrt(56))
  assert compare_vectors(-predicted, true, known=known).correlation == pytest.approx(-7 / np.sqrt(56))
  assert compare_vectors(np.full_like(true, 0.1), true, known=known).correlation == 0.0


def test_drift_is_the_mean_over_clips_and_pixels():
  rng = np.random.default_rng(0)
  flow = rng.normal(size=(3, 2, 4, 4, 2)).astype(np.float32)
  found = drift(flow)
  assert (found.shape, found.dtype) == ((2, 1, 1, 2), np.float32)
  expected = [[np.mean([flow[b, f, i, j, c] for b, i, j in np.ndindex(3, 4, 4)]) for c in range(2)] for f in range(2)]
  np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-4)
  field = flow - found
  np.testing.assert_allclose(drift(field), np.zeros((2, 1, 1, 2)), atol=1e-6)
