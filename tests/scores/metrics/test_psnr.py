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
  # Every value off by 25.5 is an error of 0.1 on [0, 1]: 10 log10(1 / 0.01) = 20 dB; off by 1/100 it is 40 dB.
  truth = np.full((1, 2, 4, 4, 1), 0.5, np.float32)
  prediction = truth + np.array([0.1, 0.01], np.float32).reshape(1, 2, 1, 1, 1)
  np.testing.assert_allclose(psnr.frame_psnr(prediction, truth, data_range=1.0), [[20.0, 40.0]], atol=1e-3)
  # Mean squared error (0.01 + 0.0001) / 2 = 0.00505, and -10 log10(0.00505) = 22.967.
  np.testing.assert_allclose(psnr.pooled_psnr(prediction, truth, data_range=1.0), [22.967], atol=1e-3)


def test_uint8_is_not_subtracted_modulo_256():
  # 10 - 20 must be -10, not 246: 20 log10(255 / 10) = 28.131 dB.
  prediction, truth = np.full((1, 1, 4, 4, 3), 10, np.uint8), np.full((1, 1, 4, 4, 3), 20, np.uint8)
  np.testing.assert_allclose(psnr.frame_psnr(prediction, truth, data_range=255), [[28.131]], atol=1e-3)


def test_equals_scikit_image_with_and_without_jit():
  prediction, truth = _pair()
  expected = [
    [peak_signal_noise_ratio(t, p, data_range=255) for t, p in zip(truths, predictions, strict=True)]
    for truths, predictions in zip(truth, prediction, strict=True)
  ]
  np.testing.assert_allclose(psnr.frame_psnr(prediction, truth, data_range=255), expected, rtol=1e-5)
  compiled = jax.jit(lambda p, t: psnr.frame_psnr(p, t, data_range=255))
  np.testing.assert_allclose(compiled(prediction, truth), expected, rtol=1e-5)


def test_identical_frames_score_the_maximum():
  prediction, truth = _pair()
  prediction[0, 1] = truth[0, 1]
  found = np.asarray(psnr.frame_psnr(prediction, truth, data_range=255))
  assert found[0, 1] == pytest.approx(psnr.MAX_PSNR)
  assert (found[0, [0, 2]] < 20).all()
  np.testing.assert_allclose(psnr.pooled_psnr(truth, truth, data_range=255), [psnr.MAX_PSNR] * 2, rtol=1e-6)


@pytest.mark.parametrize("function", [psnr.frame_psnr, psnr.pooled_psnr])
def test_wrong_ranges_types_and_shapes_raise(function):
  prediction, truth = _pair()
  with pytest.raises(ValueError, match="data_range=255"):
    function(prediction, truth, data_range=1.0)
  with pytest.raises(ValueError, match="to_uint8"):
    function(prediction / np.float32(127.5) - 1, truth / np.float32(127.5) - 1, data_range=2.0)
  with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
    function(prediction.astype(np.float32), truth.astype(np.float32), data_range=1.0)
  with pytest.raises(ValueError, match="nan"):
    function(np.full(truth.shape, np.nan, np.float32), truth / np.float32(255), data_range=1.0)
  with pytest.raises(ValueError, match="positive"):
    function(truth / np.float32(255), truth / np.float32(255), data_range=0.0)
  with pytest.raises(TypeError, match="one dtype"):
    function(prediction, truth.astype(np.float32), data_range=255)
  with pytest.raises(TypeError, match="uint8 or float"):
    function(prediction.astype(np.int32), truth.astype(np.int32), data_range=255)
  with pytest.raises(ValueError, match="B, T, H, W, C"):
    function(prediction[:, :2], truth, data_range=255)
  with pytest.raises(ValueError, match="B, T, H, W, C"):
    function(prediction[0], truth[0], data_range=255)
