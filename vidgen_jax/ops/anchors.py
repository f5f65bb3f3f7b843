"""Anchor frames: any number of frames of a clip, at any times (SR-cGAN, III.A and III.D)."""

import jax
import jax.numpy as jnp

from vidgen_jax.types import PRNGKey, Video


def draw_anchors(key: PRNGKey, batch_size: int, *, num_frames: int, counts: tuple[int, int]) -> tuple[jax.Array, ...]:
  """Draws which frames are anchors: for each clip how many, and which.

  Args:
    key: of the draws.
    batch_size: B.
    num_frames: N, length of the clips.
    counts: the least and the greatest number of anchors, 1 <= least <= greatest = M <= N; all between are equally
      likely, and so are all sets of that size.

  Returns:
    (times int32 [B, M], 0-based and ascending; known bool [B, M], False for padding, which lies behind the anchors and
    has times of other frames).
  """
  order_key, count_key = jax.random.split(key)
  order = jnp.argsort(jax.random.uniform(order_key, (batch_size, num_frames)), axis=-1)[:, : counts[1]]
  count = jax.random.randint(count_key, (batch_size, 1), counts[0], counts[1] + 1)
  padding = jnp.arange(counts[1])[None] >= count
  # The times of padding are brought behind all others by adding N.
  times = jnp.sort(order + jnp.where(padding, num_frames, 0), axis=-1)
  return (times % num_frames).astype(jnp.int32), times < num_frames


def take_times(video: Video, times: jax.Array) -> Video:
  """The frames [B, M, H, W, C] of clips [B, N, H, W, C] at times int [B, M]."""
  return jnp.take_along_axis(video, times[:, :, None, None, None], axis=1)


def put_times(video: Video, frames: Video, times: jax.Array, known: jax.Array) -> Video:
  """Clips in which frames stand at their times.

  Args:
    video: [B, N, H, W, C].
    frames: [B, M, H, W, C], of the same dtype.
    times: int [B, M], different for the known ones of a clip.
    known: bool [B, M]; False leaves the clip as it is.

  Returns:
    [B, N, H, W, C].
  """
  place = (times[:, :, None] == jnp.arange(video.shape[1])[None, None, :]) & known[:, :, None]
  source = jnp.argmax(place, axis=1)
  taken = take_times(frames, source)
  return jnp.where(place.any(axis=1)[:, :, None, None, None], taken, video)


def interpolate_times(values: jax.Array, times: jax.Array, known: jax.Array, *, num_frames: int) -> jax.Array:
  """Straight lines between values at some times; before the first and behind the last one they stay as they are.

  Args:
    values: [B, M, D].
    times: int [B, M], different for the known ones.
    known: bool [B, M], at least one of each clip.
    num_frames: N.

  Returns:
    [B, N, D].
  """
  frame = jnp.arange(num_frames)[None, :, None]
  at = jnp.where(known, times, -1)[:, None, :]
  before = jnp.max(jnp.where(known[:, None, :] & (at <= frame), at, -1), axis=-1)
  after = jnp.min(jnp.where(known[:, None, :] & (at >= frame), at, num_frames), axis=-1)
  first, last = jnp.where(before < 0, after, before), jnp.where(after >= num_frames, before, after)
  place = (at == frame).astype(values.dtype)
  placed = jnp.einsum("bnm,bmd->bnd", place, values, precision=jax.lax.Precision.HIGHEST)
  left, right = (jnp.take_along_axis(placed, index[:, :, None], axis=1) for index in (first, last))
  gap = jnp.maximum(last - first, 1)
  share = ((jnp.arange(num_frames)[None, :] - first) / gap).astype(values.dtype)[:, :, None]
  # Beyond the ends both sides are the same value.
  return left + jnp.where((last > first)[:, :, None], share, 0.0) * (right - left)
