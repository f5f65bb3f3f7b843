"""Inception-v3 (Szegedy et al. 2016) as FID uses it: TensorFlow's network of 2015, applied to each frame.

It differs from the paper's in two places: average pools do not count the padding, and the last block has a max pool.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.scores.networks.layers import ClassifierOutput

# A unit: name, channels, size of the kernel, stride.
_Unit = tuple[str, int, tuple[int, int], int]

_POINT, _SMALL, _ROW, _COLUMN = (1, 1), (3, 3), (1, 7), (7, 1)
_MIN_SIDE = 75  # The last blocks see a single pixel.


def _chain(stem: str, *units: tuple[int, tuple[int, int]], last_stride: int = 1) -> tuple[_Unit, ...]:
  """Units stem_1, stem_2, ... of (channels, size) one after the other."""
  strides = (*[1] * (len(units) - 1), last_stride)
  named = enumerate(zip(units, strides, strict=True), start=1)
  return tuple((f"{stem}_{i}", channels, size, stride) for i, ((channels, size), stride) in named)


def _block_a(pooled: int) -> tuple[tuple[_Unit, ...], ...]:
  return (
    (("branch1x1", 64, _POINT, 1),),
    _chain("branch5x5", (48, _POINT), (64, (5, 5))),
    _chain("branch3x3dbl", (64, _POINT), (96, _SMALL), (96, _SMALL)),
    (("branch_pool", pooled, _POINT, 1),),
  )


def _block_c(inner: int) -> tuple[tuple[_Unit, ...], ...]:
  twice = ((inner, _POINT), (inner, _COLUMN), (inner, _ROW), (inner, _COLUMN), (192, _ROW))
  return (
    (("branch1x1", 192, _POINT, 1),),
    _chain("branch7x7", (inner, _POINT), (inner, _ROW), (192, _COLUMN)),
    _chain("branch7x7dbl", *twice),
    (("branch_pool", 192, _POINT, 1),),
  )


_BLOCK_E = (
  (("branch1x1", 320, _POINT, 1),),
  (("branch3x3_1", 384, _POINT, 1), ("branch3x3_2a", 384, (1, 3), 1), ("branch3x3_2b", 384, (3, 1), 1)),
  (
    *_chain("branch3x3dbl", (448, _POINT), (384, _SMALL)),
    ("branch3x3dbl_3a", 384, (1, 3), 1),
    ("branch3x3dbl_3b", 384, (3, 1), 1),
  ),
  (("branch_pool", 192, _POINT, 1),),
)
_STEM: tuple[_Unit, ...] = (
  ("Conv2d_1a_3x3", 32, _SMALL, 2),
  ("Conv2d_2a_3x3", 32, _SMALL, 1),
  ("Conv2d_2b_3x3", 64, _SMALL, 1),
  ("Conv2d_3b_1x1", 80, _POINT, 1),
  ("Conv2d_4a_3x3", 192, _SMALL, 1),
)
# (pool, branches) of each block; 'down' is a max pool of stride 2 that is a branch itself.
_BLOCKS: dict[str, tuple[Literal["average", "max", "down"], tuple[tuple[_Unit, ...], ...]]] = {
  "Mixed_5b": ("average", _block_a(32)),
  "Mixed_5c": ("average", _block_a(64)),
  "Mixed_5d": ("average", _block_a(64)),
  "Mixed_6a": (
    "down",
    ((("branch3x3", 384, _SMALL, 2),), _chain("branch3x3dbl", (64, _POINT), (96, _SMALL), (96, _SMALL), last_stride=2)),
  ),
  "Mixed_6b": ("average", _block_c(128)),
  "Mixed_6c": ("average", _block_c(160)),
  "Mixed_6d": ("average", _block_c(160)),
  "Mixed_6e": ("average", _block_c(192)),
  "Mixed_7a": (
    "down",
    (
      _chain("branch3x3", (192, _POINT), (320, _SMALL), last_stride=2),
      _chain("branch7x7x3", (192, _POINT), (192, _ROW), (192, _COLUMN), (192, _SMALL), last_stride=2),
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
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [N, H, W, C] to [N, H', W', features]."""
    pads = tuple((n // 2, n // 2) if self.is_padded and self.stride == 1 else (0, 0) for n in self.size)
    options: dict[str, Any] = {"use_bias": False, "precision": lax.Precision.HIGHEST, "dtype": self.dtype}
    x = nn.Conv(self.features, self.size, self.stride, padding=pads, **options, name="conv")(x)
    return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, dtype=self.dtype, name="norm")(x))


class Block(nn.Module):
  """Parallel branches of units, concatenated; units whose names end in a and b work side by side."""

  kind: str
  width: float = 1.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [N, H, W, C] to [N, H', W', C']."""
    pool, branches = _BLOCKS[self.kind]
    found = []
    for branch in branches:
      y, side_by_side = _pool(x, pool) if branch[0][0] == "branch_pool" else x, []
      for name, channels, size, stride in branch:
        z = Unit(scaled(channels, self.width), size, stride, dtype=self.dtype, name=name)(y)
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
    dtype: dtype of the computation; parameters and results are float32.
  """

  num_classes: int = 1008
  width: float = 1.0
  dtype: Any = jnp.float32

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

    x = video.reshape(-1, *video.shape[2:]).astype(self.dtype)
    for name, channels, size, stride in _STEM:
      is_padded = name == "Conv2d_2b_3x3"
      x = Unit(scaled(channels, self.width), size, stride, is_padded, dtype=self.dtype, name=name)(x)
      if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
        x = _pool(x, "down")
    for name in _BLOCKS:
      x = Block(name, self.width, self.dtype, name=name)(x)
    features = x.mean(axis=(1, 2), dtype=jnp.float32).reshape(*video.shape[:2], -1)
    logits = nn.Dense(self.num_classes, dtype=self.dtype, precision=lax.Precision.HIGHEST, name="fc")(features)
    return ClassifierOutput(logits.astype(jnp.float32), features)
