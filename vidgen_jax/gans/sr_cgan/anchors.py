"""Anchor frames: any number of frames at any times of a clip (SR-cGAN, III.A and III.D)."""

import functools

import jax
import jax.numpy as jnp

from vidgen_jax.ops.devices import draw_per_clip
from vidgen_jax.types import PRNGKey, Video


def draw_anchors(key: PRNGKey, batch_size: int, *, num_frames: int, counts: tuple[int, int]) -> tuple[jax.Array, ...]:
  """Draws the number of anchors of each clip, and their times.

  `counts` are the minimum and maximum number of anchors, 1 <= minimum <= maximum = M <= N = `num_frames`. All numbers
  in this range are equally likely, and so are all sets of the same size.

  Returns:
    (times int32 [B, M], 0-based and ascending; known bool [B, M], False for padding, which follows the anchors and has
      times of other frames).
  """
  order_key, count_key = jax.random.split(key)
  drawn = draw_per_clip(functools.partial(jax.random.uniform, order_key), (batch_size, num_frames))
  order = jnp.argsort(drawn, axis=-1)[:, : counts[1]]
  bounds = {"minval": counts[0], "maxval": counts[1] + 1}
  count = draw_per_clip(functools.partial(jax.random.randint, count_key, **bounds), (batch_size, 1))
  padding = jnp.arange(counts[1])[None] >= count
  # Adding N sorts the times of padding to the end.
  times = jnp.sort(order + jnp.where(padding, num_frames, 0), axis=-1)
  return (times % num_frames).astype(jnp.int32), times < num_frames


def take_times(video: Video, times: jax.Array) -> Video:
  """Frames [B, M, H, W, C] of clips [B, N, H, W, C] at times int [B, M]."""
  return jnp.take_along_axis(video, times[:, :, None, None, None], axis=1)


def put_times(video: Video, frames: Video, times: jax.Array, known: jax.Array) -> Video:
  """Inserts frames [B, M, H, W, C] into clips [B, N, H, W, C] at times int [B, M], which differ within a clip.

  Frames that are not `known`, bool [B, M], are ignored.
  """
  is_at = (times[:, :, None] == jnp.arange(video.shape[1])[None, None, :]) & known[:, :, None]
  source = jnp.argmax(is_at, axis=1)
  taken = take_times(frames, source)
  return jnp.where(is_at.any(axis=1)[:, :, None, None, None], taken, video)


def interpolate_times(values: jax.Array, times: jax.Array, known: jax.Array, *, num_frames: int) -> jax.Array:
  """Interpolates values [B, M, D] linearly to [B, N, D]; constant before the first and after the last time.

  `times`, int [B, M], differ within a clip; at least one value per clip is `known`, bool [B, M].
  """
  frame = jnp.arange(num_frames)[None, :, None]
  at = jnp.where(known, times, -1)[:, None, :]
  before = jnp.max(jnp.where(known[:, None, :] & (at <= frame), at, -1), axis=-1)
  after = jnp.min(jnp.where(known[:, None, :] & (at >= frame), at, num_frames), axis=-1)
  first, last = jnp.where(before < 0, after, before), jnp.where(after >= num_frames, before, after)
  is_at = (at == frame).astype(values.dtype)
  placed = jnp.einsum("bnm,bmd->bnd", is_at, values, precision=jax.lax.Precision.HIGHEST)
  left, right = (jnp.take_along_axis(placed, index[:, :, None], axis=1) for index in (first, last))
  gap = jnp.maximum(last - first, 1)
  share = ((jnp.arange(num_frames)[None, :] - first) / gap).astype(values.dtype)[:, :, None]
  # Beyond the ends left equals right.
  return left + jnp.where((last > first)[:, :, None], share, 0.0) * (right - left)
