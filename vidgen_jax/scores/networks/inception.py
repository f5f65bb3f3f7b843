"""Inception-v3 (Szegedy et al. 2016) as FID uses it: TensorFlow's network of 2015, applied to each frame.

It differs from the paper's in two places: average pools do not count the padding, and the last block has a max pool.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.scores.networks.layers import ClassifierOutput

# A unit: name, channels, size of the kernel.
_Unit = tuple[str, int, tuple[int, int]]
_Branches = tuple[tuple[_Unit, ...], ...]

_POINT, _SMALL, _ROW, _COLUMN = (1, 1), (3, 3), (1, 7), (7, 1)
_MIN_SIDE = 75  # The last blocks see a single pixel.


def _chain(name: str, *units: tuple[int, tuple[int, int]]) -> tuple[_Unit, ...]:
  """Units of (channels, size) one after the other: name_1, name_2, ..., or name for a single one."""
  numbered = (f"_{i + 1}" if len(units) > 1 else "" for i in range(len(units)))
  return tuple((name + number, *unit) for number, unit in zip(numbered, units, strict=True))


def _block_a(pooled: int) -> _Branches:
  return (
    _chain("branch1x1", (64, _POINT)),
    _chain("branch5x5", (48, _POINT), (64, (5, 5))),
    _chain("branch3x3dbl", (64, _POINT), (96, _SMALL), (96, _SMALL)),
    _chain("branch_pool", (pooled, _POINT)),
  )


def _block_c(inner: int) -> _Branches:
  twice = ((inner, _POINT), (inner, _COLUMN), (inner, _ROW), (inner, _COLUMN), (192, _ROW))
  return (
    _chain("branch1x1", (192, _POINT)),
    _chain("branch7x7", (inner, _POINT), (inner, _ROW), (192, _COLUMN)),
    _chain("branch7x7dbl", *twice),
    _chain("branch_pool", (192, _POINT)),
  )


def _side_by_side(name: str) -> tuple[_Unit, _Unit]:
  return (f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))


_BLOCK_E = (
  _chain("branch1x1", (320, _POINT)),
  (("branch3x3_1", 384, _POINT), *_side_by_side("branch3x3_2")),
  (*_chain("branch3x3dbl", (448, _POINT), (384, _SMALL)), *_side_by_side("branch3x3dbl_3")),
  _chain("branch_pool", (192, _POINT)),
)
_STEM = (
  *(("Conv2d_1a_3x3", 32, _SMALL), ("Conv2d_2a_3x3", 32, _SMALL), ("Conv2d_2b_3x3", 64, _SMALL)),
  *(("Conv2d_3b_1x1", 80, _POINT), ("Conv2d_4a_3x3", 192, _SMALL)),
)
_POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")  # units of the stem in front of a pool
# (pool, branches) of each block; 'down' is a max pool of stride 2 that is a branch itself, next to branches whose last
# units have stride 2.
_BLOCKS: dict[str, tuple[Literal["average", "max", "down"], _Branches]] = {
  "Mixed_5b": ("average", _block_a(32)),
  "Mixed_5c": ("average", _block_a(64)),
  "Mixed_5d": ("average", _block_a(64)),
  "Mixed_6a": (
    "down",
    (_chain("branch3x3", (384, _SMALL)), _chain("branch3x3dbl", (64, _POINT), (96, _SMALL), (96, _SMALL))),
  ),
  "Mixed_6b": ("average", _block_c(128)),
  "Mixed_6c": ("average", _block_c(160)),
  "Mixed_6d": ("average", _block_c(160)),
  "Mixed_6e": ("average", _block_c(192)),
  "Mixed_7a": (
    "down",
    (
      _chain("branch3x3", (192, _POINT), (320, _SMALL)),
      _chain("branch7x7x3", (192, _POINT), (192, _ROW), (192, _COLUMN), (192, _SMALL)),
    ),
  ),
  "Mixed_7b": ("average", _BLOCK_E),
  "Mixed_7c": ("max", _BLOCK_E),
}


class Unit(nn.Module):
  """Convolution without bias, batch normalisation with stored statistics, ReLU."""

  features: int
  size: tuple[int, int]
  stride: int = 1
  is_padded: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [N, H, W, C] to [N, H', W', features]."""
    pads = tuple((n // 2, n // 2) if self.is_padded and self.stride == 1 else (0, 0) for n in self.size)
    options: dict[str, Any] = {"use_bias": False, "precision": lax.Precision.HIGHEST}
    x = nn.Conv(self.features, self.size, self.stride, padding=pads, **options, name="conv")(x)
    return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="norm")(x))


class Block(nn.Module):
  """Parallel branches of units, concatenated; units whose names end in a and b work side by side."""

  kind: str
  width: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [N, H, W, C] to [N, H', W', C']."""
    pool, branches = _BLOCKS[self.kind]
    found = []
    for branch in branches:
      y, side_by_side = _pool(x, pool) if branch[0][0] == "branch_pool" else x, []
      for name, channels, size in branch:
        stride = 2 if pool == "down" and name == branch[-1][0] else 1
        z = Unit(scaled(channels, self.width), size, stride, name=name)(y)
        if name[-1] in "ab":
          side_by_side.append(z)
        else:
          y = z
      found += side_by_side or [y]
    return jnp.concatenate([*found, _pool(x, pool)] if pool == "down" else found, axis=-1)


def _pool(x: jax.Array, kind: str) -> jax.Array:
  if kind == "average":
    return nn.avg_pool(x, _SMALL, (1, 1), "SAME", count_include_pad=False)
  return nn.max_pool(x, _SMALL, *(((2, 2), "VALID") if kind == "down" else ((1, 1), "SAME")))


def scaled(channels: int, width: float) -> int:
  """Channels of a network whose published one is multiplied by `width`, at least 1."""
  return max(1, round(width * channels))


class Inception(nn.Module):
  """Inception-v3 on each frame of a video.

  Attributes:
    num_classes: outputs of the last layer; 1008 as published.
    width: factor of all numbers of channels; 1 is the published network.
  """

  num_classes: int = 1008
  width: float = 1.0

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    """Classifies frames.

    Args:
      video: float32[B, T, H, W, 3], RGB in [-1, 1]; 299x299 as published, ValueError below 75x75.
      train: without effect; all classifiers have this argument.

    Returns:
      Logits float32[B, T, num_classes], and as features float32[B, T, 2048] the averages of the last block.
    """
    del train
    if video.ndim != 5 or min(video.shape[2:4]) < _MIN_SIDE:
      raise ValueError(f"Inception-v3 needs frames of at least {_MIN_SIDE}x{_MIN_SIDE} pixels, got {video.shape}")
    x = video.reshape(-1, *video.shape[2:])
    for name, channels, size in _STEM:
      stride, is_padded = 2 if name == "Conv2d_1a_3x3" else 1, name == "Conv2d_2b_3x3"
      x = Unit(scaled(channels, self.width), size, stride, is_padded, name=name)(x)
      x = _pool(x, "down") if name in _POOLED else x
    for name in _BLOCKS:
      x = Block(name, self.width, name=name)(x)
    features = x.mean(axis=(1, 2)).reshape(*video.shape[:2], -1)
    return ClassifierOutput(nn.Dense(self.num_classes, precision=lax.Precision.HIGHEST, name="fc")(features), features)
