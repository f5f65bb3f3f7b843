"""Preprocessing against interpolation by hand."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops.resize import resize
from vidgen_jax.scores.metrics.preprocessing import C3D_PROTOCOLS, FVD_PROTOCOLS, Preprocessing

RAMP = np.arange(2 * 2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 2, 4, 6, 3)


def test_reference_is_legacy_bilinear_in_minus_one_to_one():
  x = np.asarray(FVD_PROTOCOLS["reference"](jnp.asarray(RAMP)))
  assert x.shape == (2, 2, 224, 224, 3)
  # Pixel (56, 112) samples (56 * 4/224, 112 * 6/224) = (1, 3): sample RAMP[.., 1, 3] itself.
  np.testing.assert_allclose(x[:, :, 56, 112], RAMP[:, :, 1, 3] / 127.5 - 1, atol=1e-5)
  # Pixel (0, 28) samples (0, 0.75).
  between = 0.25 * RAMP[:, :, 0, 0].astype(float) + 0.75 * RAMP[:, :, 0, 1]
  np.testing.assert_allclose(x[:, :, 0, 28], 2 * between / 255 - 1, atol=1e-5)


def test_videogpt_keeps_the_aspect_ratio_and_crops_the_centre():
  # 4 x 6 -> 224 x 336, cropped to columns 56..279. Half-pixel: column 56 samples 56.5 * 6/336 - .5 = .508929.
  x = np.asarray(FVD_PROTOCOLS["videogpt"](jnp.asarray(RAMP)))
  assert x.shape == (2, 2, 224, 224, 3)
  place = 56.5 * 6 / 336 - 0.5
  expected = (1 - place) * RAMP[:, :, 0, 0] + place * RAMP[:, :, 0, 1]
  np.testing.assert_allclose(x[:, :, 0, 0], 2 * expected / 255 - 1, atol=1e-5)
  tall = np.swapaxes(RAMP, 2, 3)
  turned = np.asarray(FVD_PROTOCOLS["videogpt"](jnp.asarray(tall)))
  np.testing.assert_allclose(np.swapaxes(turned, 2, 3), x, atol=1e-5)
  # 5 x 7 -> 224 x ceil(313.6) = 314.
  # 25 x 25 becomes 225 x 224 by the rounding of VideoGPT's code, and is then cropped.
  assert math.ceil(25 * (224 / 25)) == 225
  square = np.random.default_rng(0).integers(256, size=(1, 1, 25, 25, 3), dtype=np.uint8)
  rows = resize(jnp.asarray(square, jnp.float32), 225, 224, "half_pixel_bilinear")[:, :, :224]
  found = FVD_PROTOCOLS["videogpt"](jnp.asarray(square))
  np.testing.assert_allclose(found, rows / 127.5 - 1, atol=1e-5)
  odd = FVD_PROTOCOLS["videogpt"](jnp.zeros((1, 1, 5, 7, 3), jnp.uint8))
  assert odd.shape == (1, 1, 224, 224, 3)


def test_protocols_differ_in_more_than_their_names():
  settings = [dataclasses.replace(protocol, name="", used_by="") for protocol in FVD_PROTOCOLS.values()]
  assert len(set(settings)) == len(settings)


@pytest.mark.parametrize(("name", "corner"), [("tgan1", (8, 29)), ("tgan2", (8, 8))])
def test_c3d_is_bgr_minus_its_part_of_the_volume(name, corner):
  volume = np.random.default_rng(0).uniform(80, 120, (2, 128, 171, 3)).astype(np.float32)
  colour = np.array([10, 100, 200], np.uint8)
  video = np.broadcast_to(colour, (1, 2, 20, 30, 3))
  x = np.asarray(C3D_PROTOCOLS[name](jnp.asarray(video), volume=jnp.asarray(volume)))
  assert x.shape == (1, 2, 112, 112, 3)
  top, left = corner
  expected = colour[::-1] - volume[:, top : top + 112, left : left + 112]
  np.testing.assert_allclose(x[0], expected, atol=1e-3)


def test_grey_is_repeated_and_scaled_per_channel():
  scaled = Preprocessing(name="own", mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
  x = scaled(jnp.full((1, 1, 2, 2, 1), 255, jnp.uint8))
  np.testing.assert_allclose(x[0, 0, 0, 0], [1, 1, 0], atol=1e-6)
