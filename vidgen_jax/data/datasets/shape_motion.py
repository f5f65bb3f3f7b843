"""Shape Motion: one circle or square on a black background, moving up or left along a Bezier curve.

The data set of MoCoGAN (Tulyakov et al., CVPR 2018), generated from a seed. The distribution was derived from the
pixels of the published 8,000 strips:

- 32 frames of 64x64. Every frame is black except for one object of one colour, with channels uniform in 0..255.
- The bounding box of the object is 8, 10, 12 or 14 pixels wide; circle and square are equally frequent in both classes.
- The class is the *direction*: 'up' from the bottom edge to the top edge, 'left' from the right edge to the left edge.
  Start and end have the same coordinate across the direction.
- The path is a Bezier curve of degree 4, evaluated at t = 0, 1/31, ..., 1 and rounded down. Its three inner control
  points are uniform over all positions of the object inside the frame, with a margin of 1 pixel at the top and left
  and 2 at the bottom and right.
"""

import dataclasses
from collections.abc import Iterator
from math import comb
from pathlib import Path

import numpy as np

from vidgen_jax.data import building
from vidgen_jax.data.datasets import Dataset, register
from vidgen_jax.errors import UserError

CLASS_NAMES = ("up", "left")
"""Directions of motion, by label."""

NUM_FRAMES = 32
SIZE = 64
OBJECT_SIZES = (8, 10, 12, 14)
"""Widths and heights of the bounding box, in pixels."""

_TEST_EVERY = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeMotionOptions:
  """Options of the generated data set.

  Attributes:
    name: name of the data set.
    data_dir: folder of all data sets.
    num_clips: number of clips; every fifth is for testing.
    seed: seed of the clips; clip n does not depend on `num_clips`.
    overwrite: whether an existing data set of that name is replaced.
  """

  name: str
  data_dir: str
  num_clips: int = 8000
  seed: int = 0
  overwrite: bool = False

  def __post_init__(self):
    if self.num_clips < _TEST_EVERY:
      raise UserError(f"--num_clips must be at least {_TEST_EVERY}, so that one is for testing; got {self.num_clips}")
    if self.seed < 0:
      raise UserError(f"--seed must be at least 0, got {self.seed}")


def object_mask(shape: str, object_size: int) -> np.ndarray:
  """Mask bool[size, size] of a 'circle' or 'square' of an even size in pixels.

  The published circles are off centre: a disc in the top left (size - 1)^2 pixels, and one more pixel at the right and
  at the bottom.
  """
  if shape == "square":
    return np.ones((object_size, object_size), bool)
  radius = object_size // 2
  row, column = np.mgrid[:object_size, :object_size] - (radius - 1)
  disc = (row**2 + column**2 <= radius**2 + 1) & (row < radius) & (column < radius)
  spurs = ((row == radius) & (column == 0)) | ((row == 0) & (column == radius))
  return disc | spurs


def bezier(control_points: np.ndarray, num_points: int) -> np.ndarray:
  """Evaluates a Bezier curve, float[degree + 1, D], at N equal steps of its parameter, both ends included: [N, D]."""
  degree = len(control_points) - 1
  t = np.linspace(0.0, 1.0, num_points)[:, None]
  power = np.arange(degree + 1)
  basis = np.array([comb(degree, i) for i in power]) * t**power * (1 - t) ** (degree - power)
  return basis @ control_points


def sample_path(generator: np.random.Generator, label: int, object_size: int) -> np.ndarray:
  """Draws a path, int[32, 2]: row and column of the top left corner of an object, whose size is in pixels."""
  first, last = 1, SIZE - 2 - object_size
  points = generator.integers(first, last, endpoint=True, size=(5, 2)).astype(np.float64)
  along, across = (0, 1) if CLASS_NAMES[label] == "up" else (1, 0)
  points[0, along], points[-1, along] = last, first
  points[-1, across] = points[0, across]
  # Rounding errors must not round an exact integer, such as an end point, down to the one below.
  return np.floor(bezier(points, NUM_FRAMES) + 1e-9).astype(int)


def generate_clip(seed: int, index: int) -> tuple[np.ndarray, int]:
  """Clip `index` of the endless sequence of a seed, independent of all others: (uint8[32, 64, 64, 3], label)."""
  generator = np.random.default_rng([seed, index])
  label = int(generator.integers(len(CLASS_NAMES)))
  shape = ("circle", "square")[generator.integers(2)]
  object_size = int(generator.choice(OBJECT_SIZES))
  colour = generator.integers(256, size=3)
  path = sample_path(generator, label, object_size)
  pixels = (object_mask(shape, object_size)[..., None] * colour).astype(np.uint8)
  video = np.zeros((NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
  for frame, (row, column) in zip(video, path, strict=True):
    frame[row : row + object_size, column : column + object_size] = pixels
  return video, label


def build_shape_motion(options: ShapeMotionOptions) -> Path:
  """Generates the data set and returns its folder; frames are PNG, as JPEG would distort flat colours on black."""

  def videos(*, testing: bool) -> Iterator[tuple[str, np.ndarray, int, str]]:
    for index in range(options.num_clips):
      if (index % _TEST_EVERY == _TEST_EVERY - 1) == testing:
        video, label = generate_clip(options.seed, index)
        yield f"{index:08d}", video, label, f"seed {options.seed} clip {index}"

  return building.build_generated(
    options,
    kind="shape_motion",
    class_names=CLASS_NAMES,
    description=f"Shape Motion, generated: {options.num_clips} clips of seed {options.seed}.",
    splits={"train": videos(testing=False), "test": videos(testing=True)},
    total=options.num_clips,
    shape=(NUM_FRAMES, SIZE, SIZE),
    fps=0.0,
  )


register(
  Dataset(
    name="shape_motion",
    title="circles and squares that move up or left (MoCoGAN, Tulyakov et al. 2018), generated from --seed",
    options_type=ShapeMotionOptions,
    build=build_shape_motion,
  )
)
