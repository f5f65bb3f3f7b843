"""Motion from kernels: sign and size against `warp`, and the combination of resolutions by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.trivd.motion_fields import combine_flows, expected_flow
from vidgen_jax.ops.warp import warp


def _one_tap(m: int, n: int, *, k: int = 3, size: int = 9) -> jax.Array:
  """Kernels [1, size, size, k*k] with weight 1 at tap (m, n)."""
  return jnp.broadcast_to(jax.nn.one_hot(m * k + n, k * k), (1, size, size, k * k))


def test_a_tap_to_the_right_is_motion_to_the_left():
  # m = 1, n = 2: every pixel copies its right neighbour, so content moves one pixel to the left.
  np.testing.assert_array_equal(expected_flow(_one_tap(1, 2))[0, 4, 4], [-1.0, 0.0])
  # m = 0, n = 1: every pixel copies the pixel above, so content moves down.
  np.testing.assert_array_equal(expected_flow(_one_tap(0, 1))[0, 4, 4], [0.0, 1.0])
  np.testing.assert_array_equal(expected_flow(_one_tap(1, 1))[0], np.zeros((9, 9, 2)))


@pytest.mark.parametrize("k", [3, 5])
def test_warp_moves_a_point_by_the_flow(k):
  point = np.zeros((k * k, 9, 9, 1), np.float32)
  point[:, 4, 4] = 1.0
  # Clip q uses tap q everywhere.
  kernels = np.broadcast_to(np.eye(k * k, dtype=np.float32)[:, None, None], (k * k, 9, 9, k * k))
  _, rows, columns, _ = np.nonzero(np.asarray(warp(jnp.asarray(point), jnp.asarray(kernels))))
  assert len(set(zip(rows, columns, strict=True))) == k * k
  flow = np.asarray(expected_flow(jnp.asarray(kernels)))[np.arange(k * k), rows, columns]
  np.testing.assert_array_equal(flow, np.stack([columns - 4, rows - 4], axis=-1))


def test_flow_is_the_mean_over_the_kernel():
  # 0.6 stays, 0.3 comes from the left (moves right), 0.1 from below on the right (moves up and left).
  kernel = np.zeros(9, np.float32)
  kernel[1 * 3 + 1], kernel[1 * 3 + 0], kernel[2 * 3 + 2] = 0.6, 0.3, 0.1
  # dx = 0.3 - 0.1, dy = -0.1.
  np.testing.assert_allclose(expected_flow(kernel.reshape(1, 1, 9))[0, 0], [0.2, -0.1], atol=1e-7)


def test_centroid_of_warped_content_moves_by_the_flow():
  kernels = jnp.broadcast_to(jax.nn.softmax(jnp.asarray(np.random.default_rng(0).normal(size=9))), (1, 9, 9, 9))
  point = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0)
  spread = np.asarray(warp(point, kernels))[0, :, :, 0]
  rows, columns = np.mgrid[:9, :9] - 4
  expected = [np.sum(columns * spread), np.sum(rows * spread)]
  np.testing.assert_allclose(expected_flow(kernels)[0, 4, 4], expected, atol=1e-6)


def test_flow_keeps_leading_axes_and_is_float32():
  kernels = jnp.full((2, 3, 4, 5, 9), 1 / 9, jnp.bfloat16)
  flow = expected_flow(kernels)
  assert (flow.shape, flow.dtype) == ((2, 3, 4, 5, 2), jnp.float32)


def test_coarse_to_fine_by_hand():
  coarse = jnp.array([[[1.0, 0.0], [0.0, -1.0]]])  # 1x2
  fine = jnp.array([[0.5, 0.25]]).reshape(1, 1, 2) * jnp.arange(8.0).reshape(2, 4, 1)  # 2x4
  combined = combine_flows([coarse, fine], size=(4, 8))
  assert combined.shape == (4, 8, 2)
  # Fine pixel (0, 1): twice the coarse flow of (0, 0) plus (0.5, 0.25) x 1; twice the sum at frame resolution.
  np.testing.assert_array_equal(combined[0, 2], [2 * (2 + 0.5), 2 * 0.25])
  np.testing.assert_array_equal(combined[1, 3], combined[0, 2])
  # Fine pixel (1, 3) has index 7 and belongs to coarse pixel (0, 1).
  np.testing.assert_array_equal(combined[3, 7], [2 * 3.5, 2 * (-2 + 1.75)])


def test_one_level_is_scaled_to_pixels_of_the_frame():
  flow = jnp.array([[[0.25, -0.5]]])
  np.testing.assert_array_equal(combine_flows([flow], size=(8, 8)), np.broadcast_to([2.0, -4.0], (8, 8, 2)))
  np.testing.assert_array_equal(combine_flows([flow], size=(1, 1)), flow)


def test_an_intermediate_resolution_may_be_missing():
  flows = [jnp.ones((3, 2, 2, 2)), jnp.ones((3, 8, 8, 2))]
  np.testing.assert_array_equal(combine_flows(flows, size=(16, 16)), np.full((3, 16, 16, 2), 2 * (4 + 1)))


def test_invalid_arguments():
  with pytest.raises(ValueError, match="odd k, got 4"):
    expected_flow(jnp.zeros((2, 2, 4)))
  with pytest.raises(ValueError, match="at least one"):
    combine_flows([], size=(4, 4))
  for size in ((6, 6), (8, 4), (2, 2)):
    with pytest.raises(ValueError, match=f"4x4 cannot be enlarged to {size[0]}x{size[1]}"):
      combine_flows([jnp.zeros((4, 4, 2))], size=size)
