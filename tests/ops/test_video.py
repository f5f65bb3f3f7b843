"""Value ranges, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops import video


def test_to_model_range_by_hand():
  # 51 / 127.5 - 1 = -0.6; 204 / 127.5 - 1 = 0.6.
  found = jax.jit(video.to_model_range)(jnp.array([0, 51, 204, 255], jnp.uint8))
  np.testing.assert_allclose(found, [-1.0, -0.6, 0.6, 1.0], atol=1e-6)
  assert found.dtype == jnp.float32
  assert video.to_model_range(np.zeros(3, np.uint8), dtype=jnp.bfloat16).dtype == jnp.bfloat16


def test_the_round_trip_is_exact():
  every = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(jax.jit(lambda x: video.to_uint8(video.to_model_range(x)))(every), every)


def test_to_uint8_rounds_and_clips():
  # (-0.6 + 1) * 127.5 = 51; one value up is 2 / 255 away, so -0.6 + 0.6 * 2 / 255 is nearer to 52.
  values = jnp.array([-3.0, -1.0, -0.6, -0.6 + 1.2 / 255, 1.0, 1.7, jnp.inf, -jnp.inf, jnp.nan])
  np.testing.assert_array_equal(video.to_uint8(values), [0, 0, 51, 52, 255, 255, 255, 0, 0])


def test_conversions_reject_the_other_range():
  with pytest.raises(TypeError, match="converted already"):
    video.to_model_range(np.zeros((2, 2), np.float32))
  with pytest.raises(TypeError, match="floating"):
    video.to_uint8(np.zeros((2, 2), np.uint8))
  with pytest.raises(TypeError, match="floating dtype"):
    video.to_model_range(np.zeros((2, 2), np.uint8), dtype=jnp.int32)
