import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data.transforms import FrameEncoding, decode_frame, resize_smallest_side
from vidgen_jax.errors import UserError


def noise(height, width, seed=0):
  return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def test_png_is_lossless():
  image = noise(6, 10)
  data = FrameEncoding(encoding="png").encode(Image.fromarray(image))
  np.testing.assert_array_equal(np.asarray(decode_frame(data, channels=3)), image)


def test_jpeg_is_close_and_keeps_the_colour_of_single_pixels():
  # One red pixel on green: subsampled chroma would mix both.
  image = np.zeros((16, 16, 3), np.uint8)
  image[..., 1] = 180
  image[5, 7] = (200, 0, 0)
  data = FrameEncoding(encoding="jpeg", quality=100).encode(Image.fromarray(image))
  assert data[:2] == b"\xff\xd8"
  np.testing.assert_allclose(np.asarray(decode_frame(data, channels=3)).astype(int), image.astype(int), atol=4)


def test_one_channel_is_luma():
  # 0.299 * 100 + 0.587 * 200 + 0.114 * 50 = 153.0
  data = FrameEncoding(encoding="png").encode(Image.fromarray(np.full((2, 2, 3), (100, 200, 50), np.uint8)))
  assert np.unique(decode_frame(data, channels=1)).tolist() == [153]


def test_integer_factors_are_mean_pooling():
  image = noise(8, 12)
  pooled = image.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
  resized = np.asarray(resize_smallest_side(Image.fromarray(image), 4))
  assert resized.shape == (4, 6, 3)
  assert np.abs(resized - pooled).max() <= 0.5


def test_other_factors_keep_the_aspect_ratio_and_the_mean():
  image = noise(30, 50)
  resized = np.asarray(resize_smallest_side(Image.fromarray(image), 12))
  assert resized.shape == (12, 20, 3)
  assert np.abs(resized.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 3
  # Antialiased: white noise loses most of its variance.
  assert resized.std() < 0.5 * image.std()


@pytest.mark.parametrize(("size", "expected"), [((10, 5), (12, 6)), ((5, 10), (6, 12)), ((6, 9), (6, 9))])
def test_size_is_that_of_the_smallest_side(size, expected):
  assert resize_smallest_side(Image.new("RGB", size), 6).size == expected


@pytest.mark.parametrize("options", [{"encoding": "gif"}, {"quality": 0}, {"quality": 101}])
def test_invalid_options_name_the_flag(options):
  with pytest.raises(UserError, match=f"--{next(iter(options))}"):
    FrameEncoding(**options)
