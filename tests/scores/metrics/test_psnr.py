"""PSNR against values by hand and scikit-image."""

import jax
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from vidgen_jax.scores.metrics import psnr


def _pair(shape=(2, 3, 8, 9, 3)) -> tuple[np.ndarray, np.ndarray]:
  generator = np.random.default_rng(0)
  return generator.integers(0, 256, shape, dtype=np.uint8), generator.integers(0, 256, shape, dtype=np.uint8)


def test_by_hand():
  # Every value off by 51 is an error of 0.2 on [0, 1]: 10 log10(1 / 0.04) = 13.979 dB.
  truth = np.full((1, 2, 4, 4, 1), 100, np.uint8)
  prediction = truth + np.array([51, 17], np.uint8).reshape(1, 2, 1, 1, 1)
  # 17 / 255 = 1 / 15: 20 log10(15) = 23.522 dB.
  np.testing.assert_allclose(psnr.frame_psnr(prediction, truth), [[13.979, 23.522]], atol=1e-3)
  # Mean squared error (0.04 + 1 / 225) / 2 = 0.022222, and -10 log10(0.022222) = 16.532.
  np.testing.assert_allclose(psnr.pooled_psnr(prediction, truth), [16.532], atol=1e-3)


def test_uint8_is_not_subtracted_modulo_256():
  # 10 - 20 must be -10, not 246: 20 log10(255 / 10) = 28.131 dB.
  prediction, truth = np.full((1, 1, 4, 4, 3), 10, np.uint8), np.full((1, 1, 4, 4, 3), 20, np.uint8)
  np.testing.assert_allclose(psnr.frame_psnr(prediction, truth), [[28.131]], atol=1e-3)


def test_equals_scikit_image_with_and_without_jit():
  prediction, truth = _pair()
  expected = [
    [peak_signal_noise_ratio(t, p, data_range=255) for t, p in zip(truths, predictions, strict=True)]
    for truths, predictions in zip(truth, prediction, strict=True)
  ]
  np.testing.assert_allclose(psnr.frame_psnr(prediction, truth), expected, rtol=1e-5)
  np.testing.assert_allclose(jax.jit(psnr.frame_psnr)(prediction, truth), expected, rtol=1e-5)


def test_identical_frames_score_the_maximum():
  prediction, truth = _pair()
  prediction[0, 1] = truth[0, 1]
  found = np.asarray(psnr.frame_psnr(prediction, truth))
  assert found[0, 1] == pytest.approx(psnr.MAX_PSNR)
  assert (found[0, [0, 2]] < 20).all()
  np.testing.assert_allclose(psnr.pooled_psnr(truth, truth), [psnr.MAX_PSNR] * 2, rtol=1e-6)


@pytest.mark.parametrize("function", [psnr.frame_psnr, psnr.pooled_psnr])
def test_wrong_types_and_shapes_raise(function):
  prediction, truth = _pair()
  with pytest.raises(TypeError, match="must be uint8"):
    function(prediction, truth.astype(np.float32))
  with pytest.raises(ValueError, match="B, T, H, W, C"):
    function(prediction[:, :2], truth)
  with pytest.raises(ValueError, match="B, T, H, W, C"):
    function(prediction[0], truth[0])
