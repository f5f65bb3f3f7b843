"""Inbetweening bound into updates: encoder, latent generator and video generator; two discriminators."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.algorithm import Loss, LossOutput, Update, adam_update
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.errors import UserError
from vidgen_jax.gans import discriminators
from vidgen_jax.gans.base import Gan, register
from vidgen_jax.gans.common import BoundNets, check_frames, check_frames_per_clip, draw_latent, init_nets
from vidgen_jax.gans.inbetween.config import InbetweenConfig
from vidgen_jax.gans.inbetween.latent_generator import LatentGenerator, StackedEncodings
from vidgen_jax.gans.inbetween.networks import Encoder, ImageDiscriminator, VideoDiscriminator, VideoGenerator
from vidgen_jax.ops import losses, resampling
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, Metrics, PRNGKey, Video

ENCODER = "encoder"
LATENT_GENERATOR = "latent_generator"
VIDEO_GENERATOR = "video_generator"
GENERATOR_NETS = (ENCODER, LATENT_GENERATOR, VIDEO_GENERATOR)
IMAGE_DISCRIMINATOR = "image_disc"
VIDEO_DISCRIMINATOR = "video_disc"
DISCRIMINATOR_NETS = (IMAGE_DISCRIMINATOR, VIDEO_DISCRIMINATOR)


@register("inbetween", InbetweenConfig)
@dataclass(frozen=True)
class Inbetween(Gan):
  """Inbetweening."""

  config: InbetweenConfig

  ema_nets = GENERATOR_NETS
  # The noise maps (eq. 1) have parameters for every frame.
  fixed_length = True

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    c = self.config
    if num_frames < 3:
      raise UserError(f"num_frames={num_frames} leaves nothing between the first and the last frame")
    if c.naive:
      lengths = [2 * 2**doublings for doublings in range(1, len(c.decoder_widths) + 1)]
      if num_frames not in lengths:
        raise UserError(
          f"num_frames={num_frames} must be one of {', '.join(map(str, lengths))} with algorithm.naive: its decoder "
          "doubles two frames"
        )
    elif num_frames % (factor := 2 ** (len(c.latent_blocks) - 1)) or num_frames < 2 * factor:
      # A coarsest level with one frame would drop the last frame's encoding.
      raise UserError(
        f"num_frames={num_frames} must be a multiple of {factor} and at least {2 * factor} for the "
        f"{len(c.latent_blocks)} entries of algorithm.latent_blocks"
      )
    return (0, num_frames - 1)

  def generators(self, *, num_frames: int, bn_momentum: float = 0.9) -> dict[str, nn.Module]:
    """The three generator modules for clips with `num_frames` frames."""
    c = self.config
    common: dict[str, Any] = {"bn_momentum": bn_momentum, "dtype": jnp.dtype(c.compute_dtype)}
    if c.naive:
      latent_generator = StackedEncodings(dtype=common["dtype"])
    else:
      latent_generator = LatentGenerator(c.latent_blocks, c.encoding_features, fusion=c.fusion, remat=c.remat, **common)
    # 4, 8, 16, ... frames: two frames are doubled log2(T) - 1 times.
    time_doublings = num_frames.bit_length() - 2 if c.naive else 0
    return {
      ENCODER: Encoder(c.encoder_widths, c.encoding_features, **common),
      LATENT_GENERATOR: latent_generator,
      VIDEO_GENERATOR: VideoGenerator(c.decoder_widths, c.channels, time_doublings=time_doublings, **common),
    }

  def discriminators(self, *, dtype: jnp.dtype) -> dict[str, nn.Module]:
    """The discriminators' modules."""
    c = self.config
    return {
      IMAGE_DISCRIMINATOR: ImageDiscriminator(c.image_discriminator_widths, dtype=dtype),
      VIDEO_DISCRIMINATOR: VideoDiscriminator(c.video_discriminator_widths, dtype=dtype),
    }

  def networks(self) -> Mapping[str, nn.Module]:
    """All networks by name; those of the naive baseline depend on the clips' length, here 16 frames."""
    return self.generators(num_frames=16) | self.discriminators(dtype=jnp.dtype(self.config.compute_dtype))

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    self._check_shape(*batch["video"].shape[1:])
    video, c = to_model_range(batch["video"]), self.config
    count, num_frames, height, width, _ = video.shape
    factor = 2 ** len(c.encoder_widths)
    encoded = jnp.zeros((count, 2, height // factor, width // factor, c.encoding_features))
    noise = jnp.zeros((count, c.latent_features))
    inputs: dict[str, dict[str, Any]] = {
      ENCODER: {"frames": video[:, :2], "train": False},
      LATENT_GENERATOR: {"ends": encoded, "noise": noise, "num_frames": num_frames, "train": False},
      VIDEO_GENERATOR: {"latent": encoded, "train": False},
      IMAGE_DISCRIMINATOR: {"frame": video[:, 0]},
      VIDEO_DISCRIMINATOR: {"video": video},
    }
    modules = self.generators(num_frames=num_frames) | self.discriminators(dtype=jnp.dtype("float32"))
    return init_nets(key, modules, inputs)

  def updates(self, phase: str) -> tuple[Update, ...]:
    del phase
    c = self.config
    return (
      adam_update("disc", DISCRIMINATOR_NETS, self.discriminator_loss, c.discriminator_optimizer),
      adam_update("gen", GENERATOR_NETS, self.generator_loss, c.generator_optimizer),
    )

  def discriminator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The log loss (eqs. 7 and 8) and the weighted gradient penalty, summed over both discriminators."""
    del frozen, step
    fake_key, real_frame_key, fake_frame_key = jax.random.split(key, 3)
    real = to_model_range(batch["video"])
    fake, _ = self.fake_video(nets, batch, fake_key)
    inputs = {
      IMAGE_DISCRIMINATOR: (self._frames(real, real_frame_key), self._frames(fake, fake_frame_key)),
      VIDEO_DISCRIMINATOR: (real, fake),
    }
    total = jnp.zeros(())
    metrics: Metrics = {}
    bound = BoundNets(self.discriminators(dtype=jnp.dtype("float32")), nets)
    for name in DISCRIMINATOR_NETS:
      on_real, on_fake = _logits_and_gradients(functools.partial(bound.apply, name), inputs[name])
      loss = losses.log_discriminator_loss(on_real[0], on_fake[0])
      penalty = losses.gradient_penalty(on_real, on_fake)
      total = total + loss + self.config.gradient_penalty * penalty
      metrics |= {
        f"{name}/loss": loss,
        f"{name}/gradient_penalty": penalty,
        f"{name}/real": jnp.mean(on_real[0]),
        f"{name}/fake": jnp.mean(on_fake[0]),
      }
    return total, LossOutput(nets={}, metrics=metrics)

  def generator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The non-saturating loss (eq. 9), summed over both discriminators."""
    del frozen, step
    fake_key, frame_key = jax.random.split(key)
    fake, refreshed = self.fake_video(nets, batch, fake_key)
    inputs = {IMAGE_DISCRIMINATOR: self._frames(fake, frame_key), VIDEO_DISCRIMINATOR: fake}
    dtype = jnp.dtype(self.config.compute_dtype)
    bound = BoundNets(self.discriminators(dtype=dtype), nets)

    def discriminate(name: str, videos: tuple[Video, ...]) -> tuple[tuple[jax.Array, ...], NetState]:
      return tuple(bound.apply(name, video.astype(dtype)) for video in videos), nets[name]

    loss, metrics = discriminators.generator_loss(discriminate, inputs, losses.nonsaturating_generator_loss)
    return loss, LossOutput(nets=refreshed, metrics=metrics)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    return draw_latent(key, (batch_size, self.config.latent_features), truncation=truncation)

  def generate(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, train: bool = False, bn_momentum: float = 0.9
  ) -> tuple[Video, Nets]:
    ends = to_model_range(batch["conditioning"])
    bound = BoundNets(self.generators(num_frames=num_frames, bn_momentum=bn_momentum), nets)
    refreshed: Nets = {}
    encoded, refreshed[ENCODER] = bound.apply_mutable(ENCODER, ends, train=train)
    latent_video, refreshed[LATENT_GENERATOR] = bound.apply_mutable(
      LATENT_GENERATOR, encoded, latent, num_frames=num_frames, train=train
    )
    video, refreshed[VIDEO_GENERATOR] = bound.apply_mutable(VIDEO_GENERATOR, latent_video, train=train)
    return _with_ends(ends, video), refreshed

  def last_blocks(self) -> tuple[int, ...]:
    blocks = () if self.config.naive else self.config.latent_blocks
    return tuple(range(sum(blocks[:-1]) + 1, sum(blocks) + 1))

  def decode_blocks(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Clips decoded from each block of the latent generator's last level (figure 4); the last are `predict`'s."""
    if self.config.naive:
      raise UserError("the naive baseline has no latent generator whose blocks could be decoded")
    ends = to_model_range(batch["conditioning"])
    bound = BoundNets(self.generators(num_frames=num_frames), nets)
    encoded = bound.apply(ENCODER, ends, train=False)
    blocks = bound.apply(LATENT_GENERATOR, encoded, latent, num_frames=num_frames, train=False, every_block=True)
    decoded = bound.apply(VIDEO_GENERATOR, blocks.reshape(-1, *blocks.shape[2:]), train=False)
    decoded = decoded.reshape(*blocks.shape[:2], *decoded.shape[1:])
    return jax.vmap(_with_ends, in_axes=(None, 0))(ends, decoded)

  def _frames(self, video: Video, key: PRNGKey) -> jax.Array:
    """Intermediate frames for the image discriminator, drawn uniformly from each clip: [B K, H, W, C] (3.4)."""
    drawn = resampling.random_frames(key, video[:, 1:-1], self.config.frames_per_clip)
    return drawn.reshape(-1, *drawn.shape[2:])

  def _check_shape(self, num_frames: int, height: int, width: int, channels: int) -> None:
    c = self.config
    self.conditioning_indices(num_frames)
    check_frames_per_clip(c, num_frames - 2)
    removed = 3 * len(c.video_discriminator_widths)
    if num_frames <= removed:
      raise UserError(
        f"data.num_frames={num_frames} must exceed {removed}: each of the {len(c.video_discriminator_widths)} entries "
        "of algorithm.video_discriminator_widths removes three frames"
      )
    names = ("encoder_widths", "image_discriminator_widths", "video_discriminator_widths")
    check_frames(c, height, width, channels, {name: 2 ** len(getattr(c, name)) for name in names})


def _with_ends(ends: Video, video: Video) -> Video:
  """The video with its first and last frame replaced by the real frames (3.3)."""
  return jnp.concatenate([ends[:, :1], video[:, 1:-1].astype(ends.dtype), ends[:, 1:]], axis=1)


def _logits_and_gradients(
  critic: Callable[[jax.Array], jax.Array], videos: tuple[jax.Array, jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
  """`losses.logits_and_gradients` on real and on generated inputs, in one pass."""
  # Interleaved clip by clip, not concatenated: every device keeps the clips it holds.
  inputs = jnp.stack(videos, axis=1).reshape(-1, *videos[0].shape[1:])
  logits, norms = losses.logits_and_gradients(critic, inputs)
  logits, norms = logits.reshape(-1, 2), norms.reshape(-1, 2)
  return (logits[:, 0], norms[:, 0]), (logits[:, 1], norms[:, 1])
