"""Motion that recurrent units and the generator's stages report: units, kernels and flows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.gans.trivd.algorithm import Trivd
from vidgen_jax.gans.trivd.config import TrivdConfig
from vidgen_jax.gans.trivd.generator import Generator
from vidgen_jax.gans.trivd.motion import combine_flows, expected_flow
from vidgen_jax.nn.recurrent import MOTION, RECURRENT_UNITS
from vidgen_jax.ops.warp import warp


@pytest.mark.parametrize("name", RECURRENT_UNITS)
def test_moving_units_are_the_units_that_write_kernels(name):
  x, state = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 3, 4, 4, 4), (1, 4, 4, 4)))
  init = functools.partial(RECURRENT_UNITS[name](4).init, num_steps=3, train=False)
  variables = jax.eval_shape(init, jax.random.key(0), x, state)
  moving = [unit for unit, unit_type in RECURRENT_UNITS.items() if unit_type.moves]
  assert (MOTION in variables) == (name in moving)
  algorithm = Trivd(TrivdConfig(recurrent_unit=name))
  if MOTION in variables:
    assert variables[MOTION]["kernels"].shape == (1, 3, 4, 4, 9)
    assert algorithm.motion_levels() == 3
    return
  with pytest.raises(UserError, match=f"algorithm.recurrent_unit='{name}' moves no content") as error:
    algorithm.motion_levels()
  assert str(error.value).endswith(f"units that do: {', '.join(moving)}")


def test_every_stage_writes_kernels_of_its_resolution():
  generator = Generator((4, 2), (2, 2), (2, 2), recurrent_unit="tsru_p", blocks_per_stage=1, class_features=2)
  conditioning, latent = jnp.zeros((2, 1, 16, 16, 3)), jnp.zeros((2, 3))
  init = functools.partial(generator.init, num_frames=5, train=False)
  motion = jax.eval_shape(init, jax.random.key(0), conditioning, latent, jnp.zeros(2, jnp.int32))[MOTION]
  shapes = [motion[f"stage_{stage}_unit"]["kernels"].shape for stage in range(2)]
  assert shapes == [(2, 5, 4, 4, 9), (2, 5, 8, 8, 9)]
  assert len(motion) == 2


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
