"""Pooling, upsampling and random crops of video."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from vidgen_jax.ops.devices import draw_per_clip


def upsample_nearest(video: jax.Array, factor: int) -> jax.Array:
  """Repeats each pixel of [..., H, W, C] `factor` times along both axes."""
  *lead, height, width, channels = video.shape
  video = jnp.broadcast_to(video[..., :, None, :, None, :], (*lead, height, factor, width, factor, channels))
  return video.reshape(*lead, height * factor, width * factor, channels)


def average_pool(video: jax.Array, factor: int) -> jax.Array:
  """Average over disjoint `factor` x `factor` windows of [..., H, W, C]; ValueError if they do not tile it."""
  *lead, height, width, channels = video.shape
  if height % factor or width % factor:
    raise ValueError(f"average_pool needs {height=} and {width=} to be multiples of {factor=}")
  video = video.reshape(*lead, height // factor, factor, width // factor, factor, channels)
  return jnp.mean(video, axis=(-4, -2))


def average_pool_time(video: jax.Array, factor: int) -> jax.Array:
  """Average over disjoint windows of `factor` frames of [B, T, H, W, C], without the remaining frames.

  Raises ValueError if the clips are shorter than one window.
  """
  batch, frames = video.shape[:2]
  if frames < factor:
    raise ValueError(f"average_pool_time needs at least {factor=} frames, got {frames=}")
  kept = frames // factor
  windows = video[:, : kept * factor].reshape(batch, kept, factor, *video.shape[2:])
  return jnp.mean(windows, axis=2)


def adaptive_max_pool(images: jax.Array, size: int) -> jax.Array:
  """Maximum over a `size` x `size` grid of windows that covers [B, H, W, C], of any resolution.

  Window i spans rows floor(i H / size) to ceil((i + 1) H / size), and columns alike.
  """
  _, height, width, _ = images.shape

  def windows(length: int) -> list[tuple[int, int]]:
    return [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]

  rows = jnp.stack([jnp.max(images[:, a:b], axis=1) for a, b in windows(height)], axis=1)
  return jnp.stack([jnp.max(rows[:, :, a:b], axis=2) for a, b in windows(width)], axis=2)


def random_crop(key: jax.Array, video: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Crops each clip of [B, T, H, W, C] to `size` = (height, width) at a random position, equal for all its frames.

  Raises ValueError if `size` exceeds the size of the frames.
  """
  batch, frames, height, width, channels = video.shape
  if size[0] > height or size[1] > width:
    raise ValueError(f"a crop of {size} does not fit into frames of {height}x{width}")
  limits = jnp.array([height - size[0] + 1, width - size[1] + 1])
  offsets = draw_per_clip(lambda shape: jax.random.randint(key, shape, 0, limits[None]), (batch, 2))

  def crop(clip: jax.Array, offset: jax.Array) -> jax.Array:
    return lax.dynamic_slice(clip, (0, offset[0], offset[1], 0), (frames, *size, channels))

  return jax.vmap(crop)(video, offsets)


def random_frames(key: jax.Array, video: jax.Array, num_frames: int) -> jax.Array:
  """Draws distinct frames of each clip of [B, T, H, W, C], in temporal order; ValueError if clips have too few."""
  batch, frames = video.shape[:2]
  if num_frames > frames:
    raise ValueError(f"cannot draw {num_frames} distinct frames from clips of {frames}")
  order = draw_per_clip(functools.partial(jax.random.uniform, key), (batch, frames))
  chosen = jnp.argsort(order, axis=1)[:, :num_frames]
  chosen = jnp.sort(chosen, axis=1)
  return jnp.take_along_axis(video, chosen[:, :, None, None, None], axis=1)
