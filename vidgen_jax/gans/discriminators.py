"""Discriminators: their inputs, their application to several sets of clips, and hinge losses summed over them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vidgen_jax.core.algorithm import Loss, LossOutput
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.gans.common import BoundNets
from vidgen_jax.gans.settings import View
from vidgen_jax.ops import losses, resampling
from vidgen_jax.types import Metrics, PRNGKey, Video


def apply_view(view: View, video: Video, key: PRNGKey, *, first_frame: int, num_frames: int, factor: int) -> jax.Array:
  """Extracts a discriminator's input, [B, K or T, H', W', C], from clips [B, T, H, W, C].

  Frames and windows are drawn independently for every clip. Frames before `first_frame` are not drawn: the conditioning
  frames are always real. `num_frames` is K, the number of frames drawn; `factor` is s, the divisor of height and width
  in downsampled and cropped views.
  """
  frames_key, crop_key = jax.random.split(key)
  if view.on == "frames":
    video = resampling.random_frames(frames_key, video[:, first_frame:], num_frames)
  if view.spatial == "downsampled":
    return resampling.average_pool(video, factor)
  if view.spatial == "cropped":
    return resampling.random_crop(crop_key, video, (video.shape[2] // factor, video.shape[3] // factor))
  return video


Discriminate = Callable[[str, tuple[Video, ...]], tuple[tuple[jax.Array, ...], NetState]]
"""(discriminator, sets of inputs) -> (outputs for each set, discriminator with updated variables)."""


def apply_discriminator(
  bound: BoundNets, name: str, videos: Sequence[jax.Array], label: jax.Array
) -> tuple[tuple[Any, ...], NetState]:
  """Applies a discriminator once to several sets of clips, so that its power iteration advances once.

  The sets are of equal shape, [B, ...], and have the same labels, int [B]; the module maps (video [B, ...], label [B])
  to a pytree of [B, ...].

  Returns:
    (outputs for each set, net with updated variables).
  """
  count, batch = len(videos), label.shape[0]
  # Interleaved clip by clip, not concatenated: every device keeps the clips it holds.
  stacked = jnp.stack(videos, axis=1).reshape(count * batch, *videos[0].shape[1:])
  scores, net = bound.apply_mutable(name, stacked, jnp.repeat(label, count), train=True)
  scores = jax.tree.map(lambda x: x.reshape(batch, count, *x.shape[1:]), scores)
  return tuple(jax.tree.map(lambda x, i=i: x[:, i], scores) for i in range(count)), net


def discriminator_loss(discriminate: Discriminate, real: Mapping[str, Video], fake: Mapping[str, Video]) -> Loss:
  """The sum of the discriminators' hinge losses on real and generated inputs, both by discriminator."""
  total = jnp.zeros(())
  refreshed: Nets = {}
  metrics: Metrics = {}
  for name, real_input in real.items():
    (on_real, on_fake), refreshed[name] = discriminate(name, (real_input, fake[name]))
    loss = losses.hinge_discriminator_loss(on_real, on_fake)
    total = total + loss
    metrics |= {f"{name}/loss": loss, f"{name}/real": jnp.mean(on_real), f"{name}/fake": jnp.mean(on_fake)}
  return total, LossOutput(nets=refreshed, metrics=metrics)


def generator_loss(
  discriminate: Discriminate, fake: Mapping[str, Video], loss_of: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, Metrics]:
  """The sum of the generator's losses on generated inputs by discriminator; and metrics."""
  total = jnp.zeros(())
  metrics: Metrics = {}
  for name, fake_input in fake.items():
    (on_fake,), _ = discriminate(name, (fake_input,))
    metrics[f"{name}/loss"] = loss = loss_of(on_fake)
    total = total + loss
  return total, metrics
