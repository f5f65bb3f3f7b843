"""Vision transformers on video: VideoMAE (Tong et al. 2022; Wang et al. 2023) and V-JEPA (Bardes et al. 2024).

Both have pre-norm blocks (Dosovitskiy et al. 2021) and tubelets of 2 frames; the published input has 16 frames.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from vidgen_jax.scores.networks.layers import ClassifierOutput

_TUBELET = 2
_STEPS = 8  # tubelets of the published 16 frames

_dense = functools.partial(nn.Dense, precision=lax.Precision.HIGHEST)
_einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, *, heads: int) -> jax.Array:
  """Attention of several heads: queries [B, N, D], keys and values [B, M, D] to [B, N, D]."""
  query, key, value = (x.reshape(*x.shape[:2], heads, -1) for x in (query, key, value))
  weights = nn.softmax(_einsum("bnhd,bmhd->bhnm", query, key) / np.sqrt(query.shape[-1]).astype(np.float32))
  return _einsum("bhnm,bmhd->bnhd", weights, value).reshape(*query.shape[:2], -1)


class Patches(nn.Module):
  """Linear map of tubelets, which a convolution whose stride is its size would be."""

  width: int
  side: int

  @nn.compact
  def __call__(self, video: jax.Array) -> jax.Array:
    """Maps a video [B, T, H, W, C] to tokens [B, T / 2 * H / side * W / side, width]."""
    *_, height, width, channels = video.shape
    tubelet = (_TUBELET, self.side, self.side)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), (*tubelet, channels, self.width))
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    grid = (-1, _TUBELET, height // self.side, self.side, width // self.side, self.side, channels)
    x = _einsum("btihjwkc,ijkcd->bthwd", video.reshape(len(video), *grid), kernel)
    return x.reshape(len(video), -1, self.width) + bias[None, None]


class Attention(nn.Module):
  """Self-attention with biases of queries, keys and values, or ('qv') of queries and values only."""

  heads: int
  biases: Literal["qkv", "qv"]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, N, D] to [B, N, D]."""
    width = x.shape[-1]
    qkv = _dense(3 * width, use_bias=self.biases == "qkv", name="qkv")(x)
    if self.biases == "qv":
      of_query, of_value = (self.param(name, nn.initializers.zeros, (width,)) for name in ("q_bias", "v_bias"))
      qkv += jnp.concatenate([of_query, jnp.zeros(width), of_value])[None, None]
    return _dense(width, name="proj")(_attend(*jnp.split(qkv, 3, axis=-1), heads=self.heads))


class Mlp(nn.Module):
  """Two dense layers with an exact GELU between them."""

  hidden: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., D] to [..., D]."""
    return _dense(x.shape[-1], name="fc2")(nn.gelu(_dense(self.hidden, name="fc1")(x), approximate=False))


class Block(nn.Module):
  """Attention and dense layers, each behind a normalisation and with a shortcut."""

  heads: int
  hidden: int
  biases: Literal["qkv", "qv"]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps tokens [B, N, D] to [B, N, D]."""
    x += Attention(self.heads, self.biases, name="attn")(nn.LayerNorm(epsilon=1e-6, name="norm1")(x))
    return x + Mlp(self.hidden, name="mlp")(nn.LayerNorm(epsilon=1e-6, name="norm2")(x))


class Pooler(nn.Module):
  """Attention of one learned query to all tokens, as in the attentive probes of V-JEPA."""

  heads: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps tokens [B, N, D] to [B, D]."""
    width = x.shape[-1]
    query = self.param("query_tokens", nn.initializers.normal(0.02), (1, 1, width))
    query = jnp.broadcast_to(query, (len(x), 1, width))
    keys = _dense(2 * width, name="kv")(nn.LayerNorm(epsilon=1e-5, name="norm1")(x))
    # The release has an output projection of this layer but never applies it.
    y = query + _attend(_dense(width, name="q")(query), *jnp.split(keys, 2, axis=-1), heads=self.heads)
    return (y + Mlp(4 * width, name="mlp")(nn.LayerNorm(epsilon=1e-5, name="norm2")(y)))[:, 0]


class VideoTransformer(nn.Module):
  """Base of both networks; the default sizes of the subclasses are those of the published weights.

  Attributes:
    num_classes: outputs of the last layer; 174 for Something-Something v2.
    width: channels of a token.
    depth: number of blocks.
    heads: attention heads; a divisor of `width`.
    hidden: channels of the dense layers between.
    patch: side of a tubelet in pixels.
    side: side of the frames in pixels.
  """

  num_classes: int
  width: int
  depth: int
  heads: int
  hidden: int
  patch: int
  side: int = 224

  def tokens(self, video: jax.Array, biases: Literal["qkv", "qv"]) -> jax.Array:
    """Tokens [B, N, width] of a video after all blocks, to be called in a compact method."""
    if video.ndim != 5 or video.shape[2:] != (self.side, self.side, 3) or video.shape[1] < 2 or video.shape[1] % 2:
      raise ValueError(
        f"the network needs clips [B, T, {self.side}, {self.side}, 3] of an even number of frames, 16 as published, "
        f"got {video.shape}; see --num_frames"
      )
    x = Patches(self.width, self.patch, name="patch_embed")(video) + self._positions(video.shape[1] // _TUBELET)
    for i in range(self.depth):
      x = Block(self.heads, self.hidden, biases, name=f"blocks_{i}")(x)
    return x

  def _positions(self, steps: int) -> jax.Array:
    """Position codes [1, steps * patches, width], interpolated along time as in the releases."""
    table, extra = self._table(_STEPS * (self.side // self.patch) ** 2)
    if steps == _STEPS:
      return table
    scale = (steps + extra) / _STEPS
    positions = np.clip((np.arange(steps) + 0.5) / scale - 0.5, 0, _STEPS - 1)
    weights = np.maximum(1 - np.abs(positions[:, None] - np.arange(_STEPS)), 0).astype(np.float32)
    return _einsum("ts,spd->tpd", weights, table.reshape(_STEPS, -1, self.width)).reshape(1, -1, self.width)

  def _table(self, count: int) -> tuple[jax.Array, float]:
    """Codes [1, count, width] of the published number of frames, and what the release adds to other numbers."""
    raise NotImplementedError


class VideoMAE(VideoTransformer):
  """VideoMAE v2, giant, fine-tuned on Something-Something v2, the network of content-debiased FVD."""

  num_classes: int = 174
  width: int = 1408
  depth: int = 40
  heads: int = 16
  hidden: int = 6144
  patch: int = 14

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    """Classifies clips float32[B, T, 224, 224, 3], RGB in [0, 1]; `train` has no effect. ValueError for other shapes.

    Returns:
      The logits, and as features the normalised mean of all tokens, [B, width].
    """
    del train
    features = nn.LayerNorm(epsilon=1e-6, name="fc_norm")(self.tokens(video, "qv").mean(axis=1))
    return ClassifierOutput(_dense(self.num_classes, name="head")(features), features)

  def _table(self, count: int) -> tuple[jax.Array, float]:
    # One index for all axes; sine and cosine alternate.
    angles = np.arange(count)[:, None] / 10000.0 ** (2 * (np.arange(self.width) // 2) / self.width)
    table = np.where(np.arange(self.width) % 2, np.cos(angles), np.sin(angles))
    return jnp.asarray(table[None], jnp.float32), 0.1


class VJEPA(VideoTransformer):
  """V-JEPA, ViT-H/16, with the attentive probe for Something-Something v2, the network of JEDi."""

  num_classes: int = 174
  width: int = 1280
  depth: int = 32
  heads: int = 16
  hidden: int = 5120
  patch: int = 16

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    """Classifies clips float32[B, T, 224, 224, 3], RGB normalised as for ImageNet; `train` has no effect.

    ValueError for other shapes.

    Returns:
      The logits, and as features the result of the attentive pooler, [B, width].
    """
    del train
    x = nn.LayerNorm(epsilon=1e-6, name="norm")(self.tokens(video, "qkv"))
    features = Pooler(self.heads, name="pooler")(x)
    return ClassifierOutput(_dense(self.num_classes, name="linear")(features), features)

  def _table(self, count: int) -> tuple[jax.Array, float]:
    # The release stores its sine and cosine codes with the weights.
    return self.param("pos_embed", nn.initializers.zeros, (1, count, self.width)), 0.0
