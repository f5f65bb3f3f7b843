"""Distribution of latents with and without truncation."""

import math

import jax
import numpy as np
import pytest

from vidgen_jax.gans.common import draw_latent

KEY = jax.random.key(0)


def test_without_truncation_latents_are_standard_normal():
  z = np.asarray(draw_latent(KEY, (200, 100)))
  assert (z.shape, z.dtype) == ((200, 100), np.float32)
  assert abs(z.mean()) < 0.03
  assert abs(z.std() - 1) < 0.03
  assert np.abs(z).max() > 3


def test_truncated_latents_are_truncated_not_clipped():
  z = np.asarray(draw_latent(KEY, (200, 100), truncation=0.8))
  assert np.abs(z).max() <= 0.8
  assert np.mean(np.abs(z) >= 0.799) < 0.01  # clipping would put 42 % there
  # Variance of a normal variable given |z| <= a: 1 - 2 a phi(a) / (2 Phi(a) - 1).
  a = 0.8
  density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
  assert z.var() == pytest.approx(1 - 2 * a * density / math.erf(a / math.sqrt(2)), abs=0.005)


def test_zero_truncation_gives_zeros_and_negative_truncation_raises():
  np.testing.assert_array_equal(draw_latent(KEY, (2, 3), truncation=0), np.zeros((2, 3)))
  with pytest.raises(ValueError, match=r"truncation must be 0 or more, got truncation=-1"):
    draw_latent(KEY, (2, 3), truncation=-1)


def test_a_smaller_batch_has_the_first_latents_of_a_larger_one():
  # So a run, which fills batches up, and its export, which does not, agree.
  np.testing.assert_array_equal(draw_latent(KEY, (3, 5)), draw_latent(KEY, (8, 5))[:3])
  np.testing.assert_array_equal(draw_latent(KEY, (3, 5), truncation=1.0), draw_latent(KEY, (8, 5), truncation=1.0)[:3])
