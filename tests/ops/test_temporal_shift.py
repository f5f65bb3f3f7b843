"""The temporal shift against an index-by-index reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops.temporal_shift import temporal_shift


def _reference(video: np.ndarray, divisor: int) -> np.ndarray:
  _, frames, _, _, channels = video.shape
  out, part = np.zeros_like(video), channels // divisor
  for b, t, i, j, c in np.ndindex(*video.shape):
    source = t - 1 if c < part else t + 1 if c < 2 * part else t
    if 0 <= source < frames:
      out[b, t, i, j, c] = video[b, source, i, j, c]
  return out


@pytest.mark.parametrize(
  ("frames", "channels", "divisor"), [(4, 6, 3), (3, 7, 3), (1, 3, 3), (4, 2, 3), (4, 8, 8), (3, 4, 2)]
)
def test_against_the_reference(frames, channels, divisor):
  video = np.random.default_rng(0).normal(size=(2, frames, 2, 3, channels)).astype(np.float32)
  np.testing.assert_array_equal(temporal_shift(video, divisor), _reference(video, divisor))


def test_gradients_flow_to_the_source_frames():
  video, seen = np.random.default_rng(1).normal(size=(2, 2, 3, 2, 2, 6)).astype(np.float32)
  gradient = jax.grad(lambda x: jnp.sum(seen * temporal_shift(x, 3)))(video)
  # The transposed map: what went forward comes back.
  third, back = 2, seen.copy()
  back[..., :third], back[..., third : 2 * third] = 0, 0
  back[:, :-1, ..., :third] = seen[:, 1:, ..., :third]
  back[:, 1:, ..., third : 2 * third] = seen[:, :-1, ..., third : 2 * third]
  np.testing.assert_allclose(gradient, back)
