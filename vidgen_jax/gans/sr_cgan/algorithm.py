"""SR-cGAN bound into updates: a VAE-GAN of frames, then a VAE-GAN of clips on its latents."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.algorithm import Loss, LossOutput, Update, adam_update
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.errors import UserError
from vidgen_jax.gans.base import Gan, register
from vidgen_jax.gans.common import BoundNets, check_frames, check_frames_per_clip, draw_latent, init_nets
from vidgen_jax.gans.sr_cgan.anchors import draw_anchors, interpolate_times, put_times, take_times
from vidgen_jax.gans.sr_cgan.config import SrCganConfig
from vidgen_jax.gans.sr_cgan.losses import (
  CLIP_VALUES,
  FRAME_VALUES,
  Gaussian,
  clip_error,
  divergence,
  frame_error,
  time_cross_entropy,
)
from vidgen_jax.gans.sr_cgan.networks import (
  ImageDiscriminator,
  ImageEncoder,
  ImageGenerator,
  TemporalDiscriminator,
  TemporalEncoder,
  TemporalGenerator,
  place_anchors,
)
from vidgen_jax.ops.losses import log_discriminator_loss, nonsaturating_generator_loss
from vidgen_jax.ops.resampling import random_frames
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, PRNGKey, Video

IMAGE_ENCODER = "image_encoder"
IMAGE_GENERATOR = "image_generator"
IMAGE_DISCRIMINATOR = "image_disc"
TEMPORAL_ENCODER = "temporal_encoder"
TEMPORAL_GENERATOR = "temporal_generator"
TEMPORAL_DISCRIMINATOR = "temporal_disc"
IMAGES, CLIPS = "images", "clips"


@register("sr_cgan", SrCganConfig)
@dataclass(frozen=True)
class SrCgan(Gan):
  """SR-cGAN."""

  config: SrCganConfig

  # Single frames, then clips (III.D).
  phases = (IMAGES, CLIPS)
  # E_T and G_T encode times as one of N.
  fixed_length = True

  def phase_at(self, step: int) -> str:
    return IMAGES if step < self.config.image_steps else CLIPS

  @property
  def ema_nets(self) -> tuple[str, ...]:
    """All nets but the discriminators."""
    temporal = (TEMPORAL_GENERATOR,) if self.config.is_base else (TEMPORAL_ENCODER, TEMPORAL_GENERATOR)
    return (IMAGE_ENCODER, IMAGE_GENERATOR, *temporal)

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    """Times of the anchors."""
    if num_frames != self.config.num_frames:
      raise UserError(f"num_frames={num_frames}: this model generates only clips of {self.config.num_frames} frames")
    return tuple(time % num_frames for time in self.config.conditioning_indices)

  def modules(self, size: Sequence[int], *, bn_momentum: float = 0.9) -> dict[str, nn.Module]:
    """The modules by name, for frames of size (height, width); the base model has no temporal encoder."""
    c = self.config
    dtype: dict[str, Any] = {"dtype": jnp.dtype(c.compute_dtype)}
    image: dict[str, Any] = {"bn_momentum": bn_momentum, **dtype}
    modules: dict[str, nn.Module] = {
      IMAGE_ENCODER: ImageEncoder(c.image_widths, c.image_features, **image),
      IMAGE_GENERATOR: ImageGenerator(tuple(size), c.image_widths, c.channels, **image),
      IMAGE_DISCRIMINATOR: ImageDiscriminator(
        c.image_discriminator_widths, hidden_features=c.image_discriminator_features, **dtype
      ),
      TEMPORAL_ENCODER: TemporalEncoder(c.num_frames, c.temporal_features, c.hidden_features, **dtype),
      TEMPORAL_GENERATOR: TemporalGenerator(c.num_frames, c.image_features, c.hidden_features, **dtype),
      TEMPORAL_DISCRIMINATOR: TemporalDiscriminator(c.temporal_discriminator_widths, **dtype),
    }
    if c.is_base:
      del modules[TEMPORAL_ENCODER]
    return modules

  def networks(self) -> Mapping[str, nn.Module]:
    """All networks by name; the image generator depends on the frames' size, here 64x64."""
    return self.modules((64, 64))

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    self._check_shape(*batch["video"].shape[1:])
    video = to_model_range(batch["video"])
    count, num_frames = video.shape[:2]
    times = jnp.broadcast_to(jnp.arange(num_frames)[None], (count, num_frames))
    known, latents = jnp.ones_like(times, bool), jnp.zeros((count, num_frames, self.config.image_features))
    anchors = None if self.config.is_base else place_anchors(video, times, known, num_frames=num_frames)
    inputs: dict[str, dict[str, Any]] = {
      IMAGE_ENCODER: {"frames": video, "train": False},
      IMAGE_GENERATOR: {"latent": latents, "train": False},
      IMAGE_DISCRIMINATOR: {"frames": video},
      TEMPORAL_ENCODER: {"latents": latents, "times": times, "known": known},
      TEMPORAL_GENERATOR: {"latent": jnp.zeros((count, self.config.temporal_features))},
      TEMPORAL_DISCRIMINATOR: {"video": video, "anchors": anchors},
    }
    return init_nets(key, self.modules(video.shape[2:4]), inputs)

  def updates(self, phase: str) -> tuple[Update, ...]:
    """In 'images': E_I, G_I and D_I, each with its own loss; in 'clips': D_T, then all nets that generate clips."""
    c = self.config
    if phase == IMAGES:
      return (
        adam_update("image_encoder", (IMAGE_ENCODER,), self.image_encoder_loss, c.image_encoder_optimizer),
        adam_update("image_generator", (IMAGE_GENERATOR,), self.image_generator_loss, c.image_generator_optimizer),
        adam_update(
          "image_disc", (IMAGE_DISCRIMINATOR,), self.image_discriminator_loss, c.image_discriminator_optimizer
        ),
      )
    # The base model does not encode frames.
    generators = tuple(name for name in self.ema_nets if not (c.is_base and name == IMAGE_ENCODER))
    fine_tuning = dict.fromkeys((IMAGE_ENCODER, IMAGE_GENERATOR), c.fine_tuning_rate)
    return (
      adam_update(
        "clip_disc", (TEMPORAL_DISCRIMINATOR,), self.clip_discriminator_loss, c.temporal_discriminator_optimizer
      ),
      adam_update("clip_gen", generators, self.clip_generator_loss, c.clip_optimizer, rate_factors=fine_tuning),
    )

  # First phase: frames.

  def image_encoder_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """L_prior + 50 L_recon, the loss of E_I (eq. 2)."""
    del frozen, step
    frame_key, latent_key = jax.random.split(key)
    frames, bound = self._frames(batch, frame_key), self._bind(nets, batch["video"])
    posterior, encoder = bound.apply_mutable(IMAGE_ENCODER, frames, train=True)
    decoded, _ = bound.apply_mutable(IMAGE_GENERATOR, posterior.sample(latent_key), train=True)
    prior, reconstruction = divergence(posterior), frame_error(decoded, frames)
    c, scale = self.config, FRAME_VALUES / math.prod(frames.shape[2:])
    loss = c.image_prior_weight * prior + c.encoder_reconstruction_weight * scale * reconstruction
    metrics = {"prior": prior, "reconstruction": reconstruction}
    return loss, LossOutput(nets={IMAGE_ENCODER: encoder}, metrics=metrics)

  def image_generator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """L_IGAN + 0.5 L_recon, the loss of G_I (eq. 3, non-saturating)."""
    del frozen, step
    frame_key, latent_key = jax.random.split(key)
    frames, bound = self._frames(batch, frame_key), self._bind(nets, batch["video"])
    (decoded, drawn), generator = _decoded_and_drawn(bound, frames, latent_key)
    on_decoded, on_drawn = (bound.apply(IMAGE_DISCRIMINATOR, x) for x in (decoded, drawn))
    adversarial = nonsaturating_generator_loss(on_decoded) + nonsaturating_generator_loss(on_drawn)
    reconstruction, scale = frame_error(decoded, frames), FRAME_VALUES / math.prod(frames.shape[2:])
    loss = adversarial + self.config.generator_reconstruction_weight * scale * reconstruction
    metrics = {"adversarial": adversarial, "reconstruction": reconstruction}
    return loss, LossOutput(nets={IMAGE_GENERATOR: generator}, metrics=metrics)

  def image_discriminator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """-L_IGAN (eq. 3), the loss of D_I: real frames against decoded and against drawn frames."""
    del frozen, step
    frame_key, latent_key = jax.random.split(key)
    frames, bound = self._frames(batch, frame_key), self._bind(nets, batch["video"])
    fakes, _ = _decoded_and_drawn(bound, frames, latent_key)
    on_real, on_decoded, on_drawn = (bound.apply(IMAGE_DISCRIMINATOR, x) for x in (frames, *fakes))
    loss = log_discriminator_loss(on_real, on_decoded) + jnp.mean(jax.nn.softplus(on_drawn))
    metrics = {"real": jnp.mean(on_real), "decoded": jnp.mean(on_decoded), "drawn": jnp.mean(on_drawn)}
    return loss, LossOutput(nets={}, metrics=metrics)

  def _frames(self, batch: Batch, key: PRNGKey) -> Video:
    """Frames drawn from each clip, [B, K, H, W, C]."""
    return random_frames(key, to_model_range(batch["video"]), self.config.frames_per_clip)

  # Second phase: clips.

  def clip_discriminator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """-L_content (eq. 11), or -L_TGAN for the base model (eq. 8), the loss of D_T."""
    del frozen, step
    video, bound = to_model_range(batch["video"]), self._bind(nets, batch["video"])
    generated, _ = self._generate_from_drawn_anchors(bound, video, key)
    on_real, on_fake = (
      bound.apply(TEMPORAL_DISCRIMINATOR, clips, generated.anchors) for clips in (video, generated.video)
    )
    loss = log_discriminator_loss(on_real, on_fake)
    return loss, LossOutput(nets={}, metrics={"real": jnp.mean(on_real), "fake": jnp.mean(on_fake)})

  def clip_generator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The weighted sum of L_TVAE, L_anchor and L_content (eqs. 9 to 11); L_TGAN alone for the base model (eq. 8)."""
    del frozen, step
    video, bound = to_model_range(batch["video"]), self._bind(nets, batch["video"])
    generated, refreshed = self._generate_from_drawn_anchors(bound, video, key)
    c, logits = self.config, bound.apply(TEMPORAL_DISCRIMINATOR, generated.video, generated.anchors)
    content = nonsaturating_generator_loss(logits)
    if generated.posterior is None:
      return content, LossOutput(nets=refreshed, metrics={"content": content})
    reconstruction, prior = clip_error(generated.video, video), divergence(generated.posterior)
    anchor, scale = time_cross_entropy(generated.time_logits), CLIP_VALUES / math.prod(video.shape[1:])
    loss = c.clip_reconstruction_weight * scale * reconstruction + c.clip_prior_weight * prior
    loss = loss + c.anchor_weight * anchor + c.content_weight * content
    metrics = {"reconstruction": reconstruction, "prior": prior, "anchor": anchor, "content": content}
    return loss, LossOutput(nets=refreshed, metrics=metrics)

  def _generate_from_drawn_anchors(
    self, bound: BoundNets, video: Video, key: PRNGKey
  ) -> tuple["_GeneratedClips", Nets]:
    """Clips in train mode, from anchors drawn from real clips, for the base model from noise; and the changed nets."""
    count, c = video.shape[0], self.config
    anchor_key, image_key, latent_key = jax.random.split(key, 3)
    posterior, anchors = None, None
    refreshed: Nets = {}
    if c.is_base:
      latent = self.latent(latent_key, count)
    else:
      times, known = draw_anchors(anchor_key, count, num_frames=c.num_frames, counts=c.anchors)
      frames = take_times(video, times)
      encoded, refreshed[IMAGE_ENCODER] = bound.apply_mutable(IMAGE_ENCODER, frames, train=True)
      posterior = bound.apply(TEMPORAL_ENCODER, encoded.sample(image_key), times, known)
      latent = posterior.sample(latent_key)
      anchors = place_anchors(frames, times, known, num_frames=c.num_frames)
    latents, time_logits = bound.apply(TEMPORAL_GENERATOR, latent)
    clips, refreshed[IMAGE_GENERATOR] = bound.apply_mutable(IMAGE_GENERATOR, latents, train=True)
    return _GeneratedClips(video=clips, anchors=anchors, posterior=posterior, time_logits=time_logits), refreshed

  # Sampling.

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """Deviations of z_T from mu_T, in standard deviations; truncation 0 is the deterministic model."""
    return draw_latent(key, (batch_size, self.config.temporal_features), truncation=truncation)

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Whole clips with the anchors at their times; the batch may give `times` as for `InfersClips.infer`."""
    video = self.infer(nets, batch, latent, num_frames=num_frames)
    if not self._has_anchors(batch):
      return video
    times, known = self._times(batch, num_frames)
    return put_times(video, to_model_range(batch["conditioning"]), times, known)

  def infer(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    return self.generate(nets, batch, latent, num_frames=num_frames)[0]

  def generate(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, train: bool = False, bn_momentum: float = 0.9
  ) -> tuple[Video, Nets]:
    self.conditioning_indices(num_frames)  # Rejects clips of another length.
    bound = self._bind(nets, batch["conditioning"], bn_momentum=bn_momentum)
    refreshed: Nets = {}
    if self._has_anchors(batch):
      times, known = self._times(batch, num_frames)
      frames = to_model_range(batch["conditioning"])
      encoded, refreshed[IMAGE_ENCODER] = bound.apply_mutable(IMAGE_ENCODER, frames, train=train)
      latent = bound.apply(TEMPORAL_ENCODER, encoded.mean, times, known).at(latent)
    latents, _ = bound.apply(TEMPORAL_GENERATOR, latent)
    video, refreshed[IMAGE_GENERATOR] = bound.apply_mutable(IMAGE_GENERATOR, latents, train=train)
    return video, refreshed

  def interpolate(self, nets: Nets, batch: Batch, *, num_frames: int) -> Video:
    """Decoded linear interpolation between the anchors' z_I (IV.C.3)."""
    bound = self._bind(nets, batch["conditioning"])
    encoded = bound.apply(IMAGE_ENCODER, to_model_range(batch["conditioning"]), train=False)
    times, known = self._times(batch, num_frames)
    latents = interpolate_times(encoded.mean, times, known, num_frames=num_frames)
    # Normalised with the batch's own statistics: those in `nets` describe latents from G_T and would distort the
    # result.
    video, _ = bound.apply_mutable(IMAGE_GENERATOR, latents, train=True)
    return video

  def _bind(self, nets: Nets, frames: Video, *, bn_momentum: float = 0.9) -> BoundNets:
    """The modules for frames [B, N, H, W, C] of this size, bound to their nets."""
    return BoundNets(self.modules(frames.shape[2:4], bn_momentum=bn_momentum), nets)

  def _has_anchors(self, batch: Batch) -> bool:
    """Whether there are conditioning frames; without them z_T ~ N(0, I)."""
    return not self.config.is_base and batch["conditioning"].shape[1] > 0

  def _times(self, batch: Batch, num_frames: int) -> tuple[jax.Array, jax.Array]:
    """Returns (times of the conditioning frames, int [B, G]; False where they are padding, bool [B, G])."""
    if "times" in batch:
      return jnp.maximum(batch["times"], 0), batch["times"] >= 0
    times = jnp.array(self.conditioning_indices(num_frames), jnp.int32)
    times = jnp.broadcast_to(times[None], (batch["conditioning"].shape[0], len(times)))
    return times, jnp.ones_like(times, bool)

  def _check_shape(self, num_frames: int, height: int, width: int, channels: int) -> None:
    c = self.config
    if num_frames != c.num_frames:
      raise UserError(f"data.num_frames={num_frames} and algorithm.num_frames={c.num_frames} must be equal")
    check_frames_per_clip(c, num_frames)
    names = ("image_widths", "image_discriminator_widths", "temporal_discriminator_widths")
    check_frames(c, height, width, channels, {name: 2 ** len(getattr(c, name)) for name in names})


@dataclass(frozen=True, kw_only=True)
class _GeneratedClips:
  """Clips generated in training, and what the losses need of their generation."""

  video: Video
  time_logits: jax.Array
  anchors: Video | None
  """As from `place_anchors`; None for the base model."""
  posterior: Gaussian | None
  """q(z_T); None for the base model."""


def _decoded_and_drawn(bound: BoundNets, frames: Video, key: PRNGKey) -> tuple[tuple[Video, Video], NetState]:
  """Returns ((G_I(E_I(x)), G_I(z)), G_I with the variables that the former pass updates)."""
  encoded_key, drawn_key = jax.random.split(key)
  posterior, _ = bound.apply_mutable(IMAGE_ENCODER, frames, train=True)
  encoded = posterior.sample(encoded_key)
  # Two passes: encoded latents have another distribution than drawn latents, so joint batch statistics would fit
  # neither, nor those with which E_I is trained.
  decoded, generator = bound.apply_mutable(IMAGE_GENERATOR, encoded, train=True)
  drawn, _ = bound.apply_mutable(IMAGE_GENERATOR, draw_latent(drawn_key, encoded.shape), train=True)
  return (decoded, drawn), generator
