"""Inbetweening bound into updates: encoder, latent generator and video generator; two discriminators."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.algorithm import Loss, LossOutput, Update, adam_update
from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError
from vidgen_jax.gans.base import Gan, SampleOptions, register
from vidgen_jax.gans.common import BoundNets, check_channels, check_resolution, draw_latent, net_state
from vidgen_jax.gans.inbetween.config import InbetweenConfig
from vidgen_jax.gans.inbetween.discriminators import ImageDiscriminator, VideoDiscriminator
from vidgen_jax.gans.inbetween.latent_generator import LatentGenerator, StackedEncodings
from vidgen_jax.gans.inbetween.video_generator import Encoder, VideoGenerator
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

  @property
  def ema_nets(self) -> tuple[str, ...]:
    return GENERATOR_NETS

  @property
  def fixed_length(self) -> bool:
    # The noise maps (eq. 1) have parameters for every frame.
    return True

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
      latent_generator = LatentGenerator(
        c.latent_blocks, c.encoding_features, fusion=c.fusion, unroll=c.unroll, remat=c.remat, **common
      )
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
    video = to_model_range(batch["video"])
    self._check_shape(*video.shape[1:])
    keys = iter(jax.random.split(key, 5))
    num_frames = video.shape[1]
    modules = self.generators(num_frames=num_frames)
    ends = self._ends(video)
    noise = jnp.zeros((video.shape[0], self.config.latent_features))

    nets = {ENCODER: net_state(modules[ENCODER].init(next(keys), ends, train=False))}
    encoded = modules[ENCODER].apply(nets[ENCODER].collections, ends, train=False)
    options = self._latent_options(num_frames, train=False)
    nets[LATENT_GENERATOR] = net_state(modules[LATENT_GENERATOR].init(next(keys), encoded, noise, **options))
    latent = modules[LATENT_GENERATOR].apply(nets[LATENT_GENERATOR].collections, encoded, noise, **options)
    nets[VIDEO_GENERATOR] = net_state(modules[VIDEO_GENERATOR].init(next(keys), latent, train=False))
    inputs = {IMAGE_DISCRIMINATOR: video[:, 0], VIDEO_DISCRIMINATOR: video}
    for name, module in self.discriminators(dtype=jnp.dtype("float32")).items():
      nets[name] = net_state(module.init(next(keys), inputs[name]))
    return nets

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
    fake, _ = self._fake_video(nets, batch, fake_key)
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
    fake, refreshed = self._fake_video(nets, batch, fake_key)
    inputs = {IMAGE_DISCRIMINATOR: self._frames(fake, frame_key), VIDEO_DISCRIMINATOR: fake}
    total = jnp.zeros(())
    metrics: Metrics = {}
    dtype = jnp.dtype(self.config.compute_dtype)
    bound = BoundNets(self.discriminators(dtype=dtype), nets)
    for name in DISCRIMINATOR_NETS:
      logits = bound.apply(name, inputs[name].astype(dtype))
      metrics[f"{name}/loss"] = loss = losses.nonsaturating_generator_loss(logits)
      total = total + loss
    return total, LossOutput(nets=refreshed, metrics=metrics)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    return draw_latent(key, (batch_size, self.config.latent_features), truncation=truncation)

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    ends = to_model_range(batch["conditioning"])
    bound = BoundNets(self.generators(num_frames=num_frames), nets)
    encoded = bound.apply(ENCODER, ends, train=False)
    options = self._latent_options(num_frames, train=False)
    video = bound.apply(VIDEO_GENERATOR, bound.apply(LATENT_GENERATOR, encoded, latent, **options), train=False)
    return _with_ends(ends, video)

  def last_blocks(self) -> tuple[int, ...]:
    """See `DecodesBlocks.last_blocks`; the naive baseline has none."""
    blocks = () if self.config.naive else self.config.latent_blocks
    return tuple(range(sum(blocks[:-1]) + 1, sum(blocks) + 1))

  def decode_blocks(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Clips decoded from each block of the latent generator's last level (figure 4); the last are `predict`'s.

    See `DecodesBlocks.decode_blocks`.
    """
    if self.config.naive:
      raise UserError("the naive baseline has no latent generator whose blocks could be decoded")
    ends = to_model_range(batch["conditioning"])
    bound = BoundNets(self.generators(num_frames=num_frames), nets)
    encoded = bound.apply(ENCODER, ends, train=False)
    blocks = bound.apply(LATENT_GENERATOR, encoded, latent, num_frames=num_frames, train=False, every_block=True)
    decoded = bound.apply(VIDEO_GENERATOR, blocks.reshape(-1, *blocks.shape[2:]), train=False)
    decoded = decoded.reshape(*blocks.shape[:2], *decoded.shape[1:])
    return jax.vmap(_with_ends, in_axes=(None, 0))(ends, decoded)

  def batch_moments(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Nets:
    ends = to_model_range(batch["conditioning"])
    latent = self.latent(key, ends.shape[0], truncation=options.truncation)
    _, refreshed = self._generate(nets, ends, latent, num_frames=options.num_frames, bn_momentum=0.0)
    return {**nets, **refreshed}

  def _generate(
    self, nets: Nets, ends: Video, latent: jax.Array, *, num_frames: int, bn_momentum: float = 0.9
  ) -> tuple[Video, Nets]:
    """A forward pass in train mode: (all frames as generated, generator nets with updated variables)."""
    bound = BoundNets(self.generators(num_frames=num_frames, bn_momentum=bn_momentum), nets)
    refreshed = {}
    encoded, refreshed[ENCODER] = bound.apply_mutable(ENCODER, ends, train=True)
    options = self._latent_options(num_frames, train=True)
    latent_video, refreshed[LATENT_GENERATOR] = bound.apply_mutable(LATENT_GENERATOR, encoded, latent, **options)
    video, refreshed[VIDEO_GENERATOR] = bound.apply_mutable(VIDEO_GENERATOR, latent_video, train=True)
    return video, refreshed

  def _latent_options(self, num_frames: int, *, train: bool) -> dict[str, Any]:
    """Options of the latent generator's call; the naive baseline's `StackedEncodings` has none."""
    return {} if self.config.naive else {"num_frames": num_frames, "train": train}

  def _fake_video(self, nets: Nets, batch: Batch, key: PRNGKey) -> tuple[Video, Nets]:
    """Returns (clips with real first and last frames, generator nets with updated variables)."""
    ends = to_model_range(self._ends(batch["video"]))
    latent = self.latent(key, ends.shape[0])
    video, refreshed = self._generate(nets, ends, latent, num_frames=batch["video"].shape[1])
    return _with_ends(ends, video), refreshed

  def _ends(self, video: Video) -> Video:
    return video[:, jnp.array(self.conditioning_indices(video.shape[1]))]

  def _frames(self, video: Video, key: PRNGKey) -> jax.Array:
    """Intermediate frames for the image discriminator, drawn uniformly from each clip: [B K, H, W, C] (3.4)."""
    drawn = resampling.random_frames(key, video[:, 1:-1], self.config.frames_per_clip)
    return drawn.reshape(-1, *drawn.shape[2:])

  def _check_shape(self, num_frames: int, height: int, width: int, channels: int) -> None:
    c = self.config
    check_channels(c, channels)
    self.conditioning_indices(num_frames)
    if not 1 <= c.frames_per_clip <= num_frames - 2:
      raise UserError(f"algorithm.frames_per_clip={c.frames_per_clip} must be in 1..{num_frames - 2}")
    removed = 3 * len(c.video_discriminator_widths)
    if num_frames <= removed:
      raise UserError(
        f"data.num_frames={num_frames} must exceed {removed}: each of the {len(c.video_discriminator_widths)} entries "
        "of algorithm.video_discriminator_widths removes three frames"
      )
    names = ("encoder_widths", "image_discriminator_widths", "video_discriminator_widths")
    check_resolution(c, height, width, {name: 2 ** len(getattr(c, name)) for name in names})


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
