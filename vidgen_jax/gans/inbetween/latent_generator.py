"""The latent generator Gz: a latent video from two encoded key frames and noise (Inbetweening, 3.2)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.nn.norm import BATCH_STATS, MOMENTS, BatchNorm
from vidgen_jax.nn.normalised_conv import NormalisedConv, activation
from vidgen_jax.ops import loops
from vidgen_jax.types import Variables


def resize_time(latent: jax.Array, length: int) -> jax.Array:
  """Resizes [B, T, ...] in time by nearest neighbour: frame i of the result is frame floor(i T / length).

  Two frames (s, e) become four as (s, s, e, e).
  """
  frames = latent.shape[1]
  if length % frames == 0:
    return jnp.repeat(latent, length // frames, axis=1)
  return jnp.take(latent, jnp.arange(length) * frames // length, axis=1)


def level_lengths(num_frames: int, num_levels: int) -> tuple[int, ...]:
  """Lengths of the latent video at each level, coarsest first; each is half the next."""
  return tuple(num_frames // 2**halvings for halvings in reversed(range(num_levels)))


class FusionBlock(nn.Module):
  """Fuses the key frames into the input (eq. 4), then applies a residual unit of two 3x3x3 convolutions (eq. 5).

  h is the leaky ReLU; both convolutions are batch-normalised, the second before the sum.

  Attributes:
    features: C.
    fusion: whether key frames are fused; without fusion z_in = z + n (4.2).
  """

  features: int
  fusion: bool = True
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, ends: jax.Array, control: jax.Array, *, train: bool) -> jax.Array:
    """Maps z [B, T, h, w, C] to the next z.

    `ends` are E(xs) and E(xe), [B, 2, h, w, C]. With fusion `control` contains the gates' logits and n, [B, T, 3 C] in
    the order s, e, n; without fusion n, [B, T, C].
    """
    control = control[:, :, None, None]
    if self.fusion:
      start_logit, end_logit, noise = jnp.split(control, 3, axis=-1)
      start_gate, end_gate = jax.nn.sigmoid(start_logit), jax.nn.sigmoid(end_logit)
      kept = jnp.maximum(0.0, 1.0 - start_gate - end_gate)
      fused = start_gate * ends[:, :1] + end_gate * ends[:, 1:] + kept * z + noise
    else:
      fused = z + control
    layer: dict[str, Any] = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
    inner = NormalisedConv(self.features, **layer, name="conv_1")(fused, train=train)
    residual = Conv3D(self.features, precision=None, dtype=self.dtype, name="conv_2")(inner)
    norm = BatchNorm(per_frame=False, momentum=self.bn_momentum, dtype=self.dtype, name="norm_2")
    return activation(z + norm(residual, train=train))


class LatentLevel(nn.Module):
  """The blocks of one temporal resolution, run as a loop over their stacked parameters; see `FusionBlock`."""

  num_blocks: int
  features: int
  fusion: bool = True
  bn_momentum: float = 0.9
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, z: jax.Array, ends: jax.Array, noise: jax.Array, *, train: bool, every_block: bool = False
  ) -> tuple[jax.Array, jax.Array | None]:
    """Maps z [B, T, h, w, C] at this level's resolution, E(xs) and E(xe) [B, 2, h, w, C], and u [B, D].

    Returns:
      (z after the last block, with `every_block` z after every block [num_blocks, B, T, h, w, C], else None).
    """
    control = self._control(noise, z.shape[1]).astype(self.dtype)
    block = FusionBlock(self.features, fusion=self.fusion, bn_momentum=self.bn_momentum, dtype=self.dtype, parent=None)
    shapes = (z[:1], ends[:1], control[0, :1])
    init = functools.partial(_init_stacked, block, self.num_blocks, shapes)
    params = self.param("blocks", lambda key: init(key)["params"])
    statistics = self.variable(BATCH_STATS, "blocks", lambda: init(jax.random.key(0))[BATCH_STATS])

    def body(z: jax.Array, inputs: tuple[Any, Any, jax.Array]) -> tuple[jax.Array, tuple[Variables, jax.Array | None]]:
      params, statistics, control = inputs
      variables = {"params": params, BATCH_STATS: statistics}
      z, new = block.apply(variables, z, ends, control, train=train, mutable=[BATCH_STATS])
      return z, (new[BATCH_STATS], z if every_block else None)

    keep = jax.checkpoint_policies.save_only_these_names(MOMENTS)
    step: Callable = jax.checkpoint(body, policy=keep) if self.remat else body
    inputs = (params, statistics.value, control)
    z, (updated, outputs) = loops.scan(step, z, inputs, length=self.num_blocks)
    if train and self.is_mutable_collection(BATCH_STATS) and not self.is_initializing():
      statistics.value = updated
    return z, outputs

  def _control(self, noise: jax.Array, length: int) -> jax.Array:
    """Inputs `control` of all blocks, [num_blocks, B, T, C or 3 C]."""
    # They do not depend on the video, so all blocks share one product for the noise tensors (eq. 1), and one
    # convolution along time for the gates and n (eqs. 2 to 4).
    count, width = self.num_blocks, self.features
    controls = 3 * width if self.fusion else width
    init = nn.initializers.lecun_normal
    kernel = self.param(
      "noise_kernel", init(in_axis=1, out_axis=(2, 3), batch_axis=0), (count, noise.shape[-1], length, width)
    )
    bias = self.param("noise_bias", nn.initializers.zeros, (count, 1, length, width))
    taps = self.param("control_kernel", init(in_axis=(1, 2), out_axis=3, batch_axis=0), (count, 3, width, controls))
    offset = self.param("control_bias", nn.initializers.zeros, (count, 1, 1, controls))
    u = jnp.einsum("bd,ldtc->lbtc", noise, kernel) + bias
    padded = jnp.pad(u, ((0, 0), (0, 0), (1, 1), (0, 0)))
    neighbours = jnp.stack([padded[:, :, tap : tap + length] for tap in range(3)], axis=3)
    return jnp.einsum("lbtkc,lkcd->lbtd", neighbours, taps) + offset


class LatentGenerator(nn.Module):
  """Generates the latent video between two encoded key frames, from coarse to fine in time.

  Attributes:
    blocks: number of blocks per level, coarsest first; time doubles from level to level.
    features: C, channels of encodings and latent video.
    fusion: whether key frames are fused stochastically; False is the paper's baseline (4.2).
  """

  blocks: tuple[int, ...] = (8, 8, 8)
  features: int = 64
  fusion: bool = True
  bn_momentum: float = 0.9
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, ends: jax.Array, noise: jax.Array, *, num_frames: int, train: bool, every_block: bool = False
  ) -> jax.Array:
    """Maps E(xs) and E(xe), [B, 2, h, w, C], and u, float32 [B, D], to the latent video [B, num_frames, h, w, C].

    With `every_block` it returns the output of each block of the last level instead, [blocks, B, num_frames, h, w, C]
    (figure 4). The length must suit `level_lengths`.
    """
    z, outputs = ends.astype(self.dtype), None
    lengths = level_lengths(num_frames, len(self.blocks))
    for index, (length, count) in enumerate(zip(lengths, self.blocks, strict=True)):
      last = index + 1 == len(self.blocks)
      z, outputs = LatentLevel(
        count,
        self.features,
        fusion=self.fusion,
        bn_momentum=self.bn_momentum,
        remat=self.remat,
        dtype=self.dtype,
        name=f"level_{index}",
      )(resize_time(z, length), ends.astype(self.dtype), noise, train=train, every_block=every_block and last)
    return z if outputs is None else outputs


class StackedEncodings(nn.Module):
  """The naive baseline instead of a latent generator: the two encodings plus spatially uniform noise (4.2)."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, ends: jax.Array, noise: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Maps encodings [B, 2, h, w, C] and u [B, D] to [B, 2, h, w, C], for clips of any length."""
    del num_frames, train
    batch, frames, _, _, features = ends.shape
    added = nn.Dense(frames * features, name="noise")(noise).reshape(batch, frames, 1, 1, features)
    return ends.astype(self.dtype) + added.astype(self.dtype)


def _init_stacked(block: FusionBlock, count: int, shapes: tuple[jax.Array, ...], key: jax.Array) -> Variables:
  """Variables of `count` blocks, stacked along a leading axis."""
  inputs = [jnp.zeros(x.shape, x.dtype) for x in shapes]
  return jax.vmap(lambda key: block.init(key, *inputs, train=False))(jax.random.split(key, count))
