"""Input of Inception-v3, VideoMAE and V-JEPA as their codes prepare it, and the distance of JEDi."""

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.scores.metrics.preprocessing import FID_PROTOCOLS, NETWORK_PROTOCOLS
from vidgen_jax.scores.metrics.set_distance import jedi_distance

VIDEO = np.random.default_rng(0).integers(256, size=(1, 2, 20, 33, 3), dtype=np.uint8)


@pytest.mark.parametrize(
  ("protocol", "side", "mean", "std"),
  [
    (FID_PROTOCOLS["pytorch_fid"], 299, [0.5] * 3, [0.5] * 3),
    (NETWORK_PROTOCOLS["videomae"], 224, [0] * 3, [1] * 3),
    (NETWORK_PROTOCOLS["vjepa"], 224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
  ],
)
def test_bilinear_input(protocol, side, mean, std):
  torch = pytest.importorskip("torch", reason="PyTorch resizes the reference")
  images = torch.from_numpy(VIDEO[0]).permute(0, 3, 1, 2) / 255
  resized = torch.nn.functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
  expected = (resized.permute(0, 2, 3, 1).numpy() - np.float32(mean)) / np.float32(std)
  np.testing.assert_allclose(protocol(VIDEO)[0], expected, atol=1e-5)


def test_clean_input():
  expected = np.empty((2, 299, 299, 3))
  for frame, channel in np.ndindex(2, 3):
    image = Image.fromarray(VIDEO[0, frame, ..., channel].astype(np.float32))
    resized = np.asarray(image.resize((299, 299), Image.Resampling.BICUBIC))
    assert resized.max() > 260  # Values are limited only after resizing.
    expected[frame, ..., channel] = (resized.clip(0, 255) - 128) / 128
  np.testing.assert_allclose(FID_PROTOCOLS["clean"](VIDEO)[0], expected, atol=1e-5)


def test_jedi():
  # The example of the published code, which prints 270.7 without the factor 100.
  a, b = np.arange(1, 10).reshape(3, 3), np.array([[7, 6, 5], [4, 3, 2], [1, 1, 8], [0, 2, 5]])
  assert jedi_distance(a, b) == pytest.approx(27072.2, abs=0.05)
  kernel = lambda x, y: np.mean((x @ y.T / 3) ** 2)
  assert jedi_distance(a, b) == pytest.approx(100 * (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)), rel=1e-12)
