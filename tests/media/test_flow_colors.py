"""The colour wheel, by hand from the steps that Baker et al. published, and the images made of it."""

import numpy as np
import pytest

from vidgen_jax.media.flow_colors import flow_colors, wheel_image


@pytest.mark.parametrize(
  ("flow", "colour"),
  [
    ((1, 0), (255, 0, 0)),  # To the right: the first colour.
    # To the left: number 54 / 2 = 27, the third from cyan to blue in 11 steps: 255 - floor(255 * 2 / 11) = 209.
    ((-1, 0), (0, 209, 255)),
    # Down: halfway between numbers 13 and 14, 221 and 238, of red to yellow in 15 steps: 229.5.
    ((0, 1), (255, 229, 0)),
    # Up: halfway between numbers 40 and 41, the fifth and sixth (78, 98) of blue to magenta in 13 steps.
    ((0, -1), (88, 0, 255)),
    ((0, 0), (255, 255, 255)),
    ((-0.0, -0.0), (255, 255, 255)),
    ((1, -0.0), (255, 0, 0)),
    # Half the radius: halfway to white.
    ((0.5, 0), (255, 127, 127)),
    # Beyond the radius: three quarters as bright.
    ((2, 0), (191, 0, 0)),
  ],
)
def test_colours_by_hand(flow, colour):
  assert flow_colors(np.array(flow, np.float32), radius=1.0).tolist() == list(colour)


def test_the_wheel_has_the_published_steps():
  # A turn in 54 steps, starting just above the seam, gives every colour exactly.
  angles = np.pi * (np.arange(55) / 27 - 1)
  flow = -np.stack([np.cos(angles), np.sin(angles)], axis=-1)
  flow[0], flow[-1] = (1.0, 0.0), (1.0, -1e-12)
  colours = flow_colors(flow, radius=1.0).astype(int)
  for number, corner in {
    0: (255, 0, 0),
    15: (255, 255, 0),
    21: (0, 255, 0),
    25: (0, 255, 255),
    36: (0, 0, 255),
    49: (255, 0, 255),
    54: (255, 0, 43),  # 255 - floor(255 * 5 / 6)
  }.items():
    np.testing.assert_allclose(colours[number], corner, atol=1)


def test_opposite_motions_differ_and_angles_change_gradually():
  angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
  flow = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
  colours = flow_colors(flow, radius=1.0).astype(int)
  # A step of half a degree; the widest jump is at the seam, from the last colour to the first: 43.
  assert np.abs(np.diff(colours, axis=0)).max() <= 43
  assert (np.abs(colours - np.roll(colours, 360, axis=0)).max(axis=1) > 100).all()


def test_fields_of_any_shape_and_unit():
  flow = np.zeros((2, 3, 2), np.float32)
  flow[0, 0], flow[1, 2] = (5.0, 0.0), (2.5, 0.0)
  colours = flow_colors(flow, radius=5.0)
  assert (colours.shape, colours.dtype) == ((2, 3, 3), np.uint8)
  assert colours[0, 0].tolist() == [255, 0, 0]
  assert colours[1, 2].tolist() == [255, 127, 127]
  assert flow_colors(np.zeros((0, 2)), radius=1.0).shape == (0, 3)
  np.testing.assert_array_equal(flow_colors(2 * flow, radius=10.0), colours)


def test_the_legend_is_the_motion_from_its_centre():
  wheel = wheel_image(65)
  assert (wheel.shape, wheel.dtype) == ((65, 65, 3), np.uint8)
  assert wheel[32, 64].tolist() == [255, 0, 0]  # right
  assert wheel[32, 0].tolist() == [0, 209, 255]  # left
  assert wheel[64, 32].tolist() == [255, 229, 0]  # bottom
  assert wheel[0, 32].tolist() == [88, 0, 255]  # top
  for row, column in ((32, 32), (0, 0), (64, 64), (0, 64), (64, 0)):
    assert wheel[row, column].tolist() == [255, 255, 255]


def test_motions_must_be_finite():
  with pytest.raises(ValueError, match="finite"):
    flow_colors(np.array([np.nan, 0.0]), radius=1.0)
