"""SSIM against scikit-image and a value by hand."""

import jax
import numpy as np
import pytest
from skimage import data
from skimage.metrics import structural_similarity

from vidgen_jax.scores.metrics import ssim


def _reference(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
  settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
  # In double precision: scikit-image would otherwise follow the input's float32.
  return np.array(
    [
      [
        structural_similarity(p.astype(np.float64), t.astype(np.float64), data_range=255, **settings)
        for p, t in zip(ps, ts, strict=True)
      ]
      for ps, ts in zip(prediction, truth, strict=True)
    ]
  )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(11, 11), (16, 23)])
def test_equals_scikit_image_on_noise(size, channels):
  generator = np.random.default_rng(1)
  truth = generator.integers(0, 256, (2, 2, *size, channels), dtype=np.uint8)
  prediction = np.clip(truth + generator.normal(0, 40, truth.shape), 0, 255).astype(np.uint8)
  found = ssim.frame_ssim(prediction, truth)
  np.testing.assert_allclose(found, _reference(prediction, truth), atol=1e-5)
  assert found.shape == (2, 2)
  np.testing.assert_allclose(jax.jit(ssim.frame_ssim)(prediction, truth), found, atol=1e-5)


def test_equals_scikit_image_on_flat_bright_frames():
  # E[x^2] and E[x]^2 agree in nearly all digits.
  truth = np.full((1, 2, 32, 32, 3), 250, np.uint8)
  truth[:, 1] = 0
  prediction = truth.copy()
  prediction[:, :, 10:14, 12:15, 1] = 90
  np.testing.assert_allclose(ssim.frame_ssim(prediction, truth), _reference(prediction, truth), atol=1e-5)


def test_equals_scikit_image_on_a_photograph():
  truth = data.astronaut()[None, None, 100:228, 150:310]
  prediction = np.roll(truth, 2, axis=3)
  np.testing.assert_allclose(ssim.frame_ssim(prediction, truth), _reference(prediction, truth), atol=1e-5)


def test_by_hand():
  # Two flat frames have no variance: SSIM = (2 a b + C1) / (a^2 + b^2 + C1) with a = 0.2, b = 0.4, C1 = 1e-4:
  # 0.1601 / 0.2001 = 0.80010.
  flat = np.full((1, 1, 12, 12, 3), 51, np.uint8)
  found = ssim.frame_ssim(flat, 2 * flat)
  np.testing.assert_allclose(found, [[0.80010]], atol=1e-5)


def test_identical_frames_score_one():
  video = np.random.default_rng(2).integers(0, 256, (3, 4, 12, 12, 1), dtype=np.uint8)
  np.testing.assert_allclose(ssim.frame_ssim(video, video), np.ones((3, 4)), atol=1e-6)
