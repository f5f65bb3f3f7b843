"""Single images: rotated by EXIF, transparent, 16 bits, several in a file."""

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data.still_images import read_image
from vidgen_jax.errors import UserError

RGB = np.random.default_rng(0).integers(256, size=(3, 5, 3), dtype=np.uint8)


def saved(path, image, **options):
  image.save(path, **options)
  return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.tga"])
def test_colours_are_exact_in_every_format(name, tmp_path):
  image, changes = read_image(saved(tmp_path / name, Image.fromarray(RGB)))
  assert (image.mode, changes) == ("RGB", ())
  np.testing.assert_array_equal(np.asarray(image), RGB)


@pytest.mark.parametrize(
  ("orientation", "turns", "description"),
  [(1, 0, ""), (3, 2, "rotated by 180 degrees"), (6, 3, "rotated clockwise"), (8, 1, "rotated counterclockwise")],
)
def test_exif_orientation_is_applied(orientation, turns, description, tmp_path):
  exif = Image.Exif()
  exif[0x0112] = orientation
  image, changes = read_image(saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif))
  np.testing.assert_array_equal(np.asarray(image), np.rot90(RGB, turns))
  assert changes == ((description,) if description else ())


@pytest.mark.parametrize(("name", "turned"), [("a.png", False), ("a.tif", False), ("a.tif", True)])
def test_sixteen_bits_are_scaled_not_clipped(name, turned, tmp_path):
  # 128 rounds down to 0, 129 up to 1; 257 n is n.
  values = np.array([[0, 128, 129], [257 * 100, 65406, 65535]], np.uint16)
  exif = Image.Exif()
  exif[0x0112] = 3 if turned else 1
  image, changes = read_image(saved(tmp_path / name, Image.fromarray(values), exif=exif))
  expected = np.array([[0, 0, 1], [100, 254, 255]], np.uint8)
  expected = np.rot90(expected, 2) if turned else expected
  np.testing.assert_array_equal(np.asarray(image), np.broadcast_to(expected[..., None], (2, 3, 3)))
  assert changes[-1] == "16 bits reduced to 8"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_composited_on_grey(mode, tmp_path):
  grey = np.full((1, 3), 100, np.uint8)
  alpha = np.array([[255, 0, 51]], np.uint8)  # opaque, invisible, one fifth
  pixels = Image.fromarray(np.stack([grey] * (len(mode) - 1) + [alpha], axis=-1))
  image, changes = read_image(saved(tmp_path / "a.png", pixels))
  # 100 / 5 + 128 * 4 / 5 = 122.4.
  np.testing.assert_array_equal(np.asarray(image)[0], np.repeat([[100], [128], [122]], 3, axis=1))
  assert changes == ("composited on #808080",)
  faint, _ = read_image(saved(tmp_path / "faint.png", pixels.crop((2, 0, 3, 1))))
  assert np.asarray(faint).tolist() == [[[122] * 3]]
  opaque_rgba = Image.fromarray(np.dstack([RGB, np.full((3, 5), 255, np.uint8)]))
  opaque, changes = read_image(saved(tmp_path / "b.png", opaque_rgba))
  np.testing.assert_array_equal(np.asarray(opaque), RGB)
  assert changes == ()


def test_palettes_with_a_transparent_colour(tmp_path):
  image = Image.frombytes("P", (2, 1), bytes([0, 1]))
  image.putpalette([10, 20, 30, 40, 50, 60])
  plain, _ = read_image(saved(tmp_path / "a.png", image))
  assert np.asarray(plain).tolist() == [[[10, 20, 30], [40, 50, 60]]]
  transparent, _ = read_image(saved(tmp_path / "b.png", image, transparency=1))
  assert np.asarray(transparent).tolist() == [[[10, 20, 30], [128, 128, 128]]]


def test_the_first_of_several_images(tmp_path):
  first, second = (Image.fromarray(np.full((2, 2, 3), value, np.uint8)) for value in (10, 20))
  image, changes = read_image(saved(tmp_path / "a.tif", first, save_all=True, append_images=[second]))
  assert np.asarray(image)[0, 0].tolist() == [10, 10, 10]
  assert changes == ("the first of 2 images",)


def test_unusable_files_give_one_line(tmp_path):
  (tmp_path / "text.png").write_text("no image")
  whole = saved(tmp_path / "whole.png", Image.fromarray(RGB))
  (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:50])
  saved(tmp_path / "float.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
  saved(tmp_path / "wide.tif", Image.fromarray(np.array([[0, 70_000]], np.int32)))
  for name, message in {
    "missing.png": "missing.png cannot be read as an image: No such file",
    "text.png": "text.png is no image of a known format; save it as PNG or JPEG",
    "cut.png": "cut.png cannot be read as an image: ",
    "float.tif": "float.tif holds floating-point values",
    "wide.tif": "wide.tif holds values from 0 to 70000; save it with 8 or 16 bits",
    "": "cannot be read as an image: Is a directory",
  }.items():
    with pytest.raises(UserError, match=message):
      read_image(tmp_path / name)
