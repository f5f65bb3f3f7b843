"""MVT-GAN bound into updates: a generator, a discriminator of frames and a discriminator of clips."""

import functools
import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.algorithm import FrozenNetwork, Loss, LossOutput, Update, adam_update
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.errors import UserError
from vidgen_jax.gans import discriminators
from vidgen_jax.gans.base import Gan, register
from vidgen_jax.gans.common import BoundNets, check_frames, check_frames_per_clip, class_labels, draw_latent, init_nets
from vidgen_jax.gans.discriminators import apply_discriminator
from vidgen_jax.gans.mvt.config import MvtConfig
from vidgen_jax.gans.mvt.motion_constraint import motion_similarity
from vidgen_jax.gans.mvt.networks import FrameGenerator, Generator, SequenceGenerator, VideoDiscriminator
from vidgen_jax.gans.settings import View
from vidgen_jax.nn.biggan import ResidualDiscriminator
from vidgen_jax.nn.pwc_net import PWCNet
from vidgen_jax.ops import losses, resampling
from vidgen_jax.ops.optical_flow import FlowEstimator, LucasKanade, flow_of_clips
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, PRNGKey, Video

GENERATOR = "generator"
IMAGE_DISCRIMINATOR = "image_disc"
VIDEO_DISCRIMINATOR = "video_disc"
FLOW_NETWORK = "flow"
DISCRIMINATOR_NETS = (IMAGE_DISCRIMINATOR, VIDEO_DISCRIMINATOR)


@register("mvt", MvtConfig)
@dataclass(frozen=True)
class Mvt(Gan):
  """MVT-GAN."""

  config: MvtConfig

  ema_nets = (GENERATOR,)

  @property
  def views(self) -> tuple[View, ...]:
    """Inputs of the discriminators."""
    return (
      View(net=IMAGE_DISCRIMINATOR, on="frames", spatial="full"),
      View(net=VIDEO_DISCRIMINATOR, on="video", spatial="full"),
    )

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    if num_frames < 1:
      raise UserError(f"num_frames={num_frames} must be at least 1")
    return ()

  def generator(self, size: Sequence[int], *, bn_momentum: float = 0.9) -> Generator:
    """The generator module for frames of size (height, width)."""
    c = self.config
    factor = 2 ** (len(c.generator_multipliers) - 1)
    shared: dict[str, Any] = {"bn_momentum": bn_momentum, "dtype": jnp.dtype(c.compute_dtype)}
    frames = FrameGenerator(
      tuple(c.generator_channels * m for m in c.generator_multipliers),
      first_size=(size[0] // factor, size[1] // factor),
      channels=c.channels,
      attention_after=c.generator_attention,
      shifted_blocks=c.shifted_blocks,
      shift_divisor=c.shift_divisor,
      conditional_bias=c.conditional_bias,
      remat=c.remat,
      **shared,
    )
    sequence = SequenceGenerator(c.hidden_features, spectral_norm=c.sequence_spectral_norm, **shared)
    classes: dict[str, Any] = {"num_classes": c.num_classes, "class_features": c.class_features}
    return Generator(sequence, frames, embedding_spectral_norm=c.embedding_spectral_norm, **classes)

  def discriminators(self) -> dict[str, nn.Module]:
    """The discriminators' modules."""
    c = self.config
    image = ResidualDiscriminator(
      tuple(c.image_discriminator_channels * m for m in c.image_discriminator_multipliers),
      num_classes=c.num_classes,
      attention_after=c.image_discriminator_attention,
      remat=c.remat,
      dtype=jnp.dtype(c.compute_dtype),
    )
    video = VideoDiscriminator(
      c.video_discriminator_widths,
      batch_norm=c.video_discriminator_batch_norm,
      num_classes=c.num_classes,
      dtype=jnp.dtype(c.compute_dtype),
    )
    return {IMAGE_DISCRIMINATOR: image, VIDEO_DISCRIMINATOR: video}

  def networks(self) -> Mapping[str, nn.Module]:
    """All networks by name; the generator's first map depends on the frames' size, here 128x128."""
    return {GENERATOR: self.generator((128, 128)), **self.discriminators()}

  def frozen_networks(self) -> Mapping[str, FrozenNetwork]:
    """PWC-Net, if the motion constraint uses it."""
    if not self.config.flow_weights:
      return {}
    return {FLOW_NETWORK: FrozenNetwork(module=PWCNet(), weights=self.config.flow_weights, network="pwc_net")}

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    self._check_shape(*batch["video"].shape[1:])
    video, label = to_model_range(batch["video"]), self._label(batch["label"])
    latent = jnp.zeros((video.shape[0], sum(self.config.latent_sizes)))
    options = {"label": label, "train": False}
    inputs: dict[str, dict[str, Any]] = {
      name: {"video": view, **options} for name, view in self._views_of(video, key).items()
    }
    inputs[GENERATOR] = {"latent": latent, "num_frames": video.shape[1], **options}
    return init_nets(key, {GENERATOR: self.generator(video.shape[2:4]), **self.discriminators()}, inputs)

  def updates(self, phase: str) -> tuple[Update, ...]:
    del phase
    c = self.config
    return (
      adam_update(
        "disc", DISCRIMINATOR_NETS, self.discriminator_loss, c.discriminator_optimizer, repeats=c.discriminator_steps
      ),
      adam_update("gen", (GENERATOR,), self.generator_loss, c.generator_optimizer),
    )

  def discriminator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The hinge loss (eqs. 2 and 3), summed over both discriminators; fakes have the classes of the real clips."""
    del frozen, step
    fake_key, real_frame_key, fake_frame_key = jax.random.split(key, 3)
    real = to_model_range(batch["video"])
    fake, _ = self.fake_video(nets, batch, fake_key)
    bound = BoundNets(self.discriminators(), nets)
    discriminate = functools.partial(self._discriminate, bound, self._label(batch["label"]))
    return discriminators.discriminator_loss(
      discriminate, self._views_of(real, real_frame_key), self._views_of(fake, fake_frame_key)
    )

  def generator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The sum over discriminators of -mean D(fake), and the motion constraint (eq. 6)."""
    del step
    fake_key, frame_key = jax.random.split(key)
    label = self._label(batch["label"])
    fake, refreshed = self.fake_video(nets, batch, fake_key)
    discriminate = functools.partial(self._discriminate, BoundNets(self.discriminators(), nets), label)
    fakes = self._views_of(fake, frame_key)
    loss, metrics = discriminators.generator_loss(discriminate, fakes, losses.hinge_generator_loss)
    if self.config.motion_constraint:
      estimate = self._flow_estimator(frozen)
      real_flow = flow_of_clips(estimate, to_model_range(batch["video"]))
      fake_flow = flow_of_clips(estimate, fake)
      similarity, pairs = motion_similarity(real_flow, fake_flow, label, label, num_classes=self.config.num_classes)
      loss = loss + self.config.motion_constraint * (1.0 - similarity)
      metrics |= {"motion_similarity": similarity, "motion_pairs": pairs}
    return loss, LossOutput(nets=refreshed, metrics=metrics)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """Z_ABC, every part in units of its standard deviation, with the means `sampling_means`."""
    latent, c = draw_latent(key, (batch_size, sum(self.config.latent_sizes)), truncation=truncation), self.config
    if not any(c.sampling_means):
      return latent
    return latent + self._by_part([mean / scale for mean, scale in zip(c.sampling_means, c.latent_scales, strict=True)])

  def training_latent(self, key: PRNGKey, batch_size: int) -> jax.Array:
    return draw_latent(key, (batch_size, sum(self.config.latent_sizes)))

  def generate(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, train: bool = False, bn_momentum: float = 0.9
  ) -> tuple[Video, Nets]:
    # The batch has no conditioning frames, but their shape gives the frames' size.
    module = self.generator(batch["conditioning"].shape[2:4], bn_momentum=bn_momentum)
    bound = BoundNets({GENERATOR: module}, nets)
    options = {"num_frames": num_frames, "train": train}
    video, generator = bound.apply_mutable(GENERATOR, self._scaled(latent), self._label(batch["label"]), **options)
    return video, {GENERATOR: generator}

  def latent_parts(self) -> Mapping[str, tuple[int, int]]:
    ends = list(itertools.accumulate(self.config.latent_sizes, initial=0))
    names = [f"z_{letter}" for letter in string.ascii_uppercase[: len(ends) - 1]]
    return dict(zip(names, itertools.pairwise(ends), strict=True))

  def embed_classes(self, nets: Nets, label: jax.Array) -> jax.Array:
    bound = BoundNets({GENERATOR: self.generator((0, 0))}, nets)
    return bound.apply(GENERATOR, self._label(label), method="embed")

  def predict_mixed(
    self, nets: Nets, batch: Batch, latent: jax.Array, embedding: jax.Array, *, num_frames: int
  ) -> Video:
    bound = BoundNets({GENERATOR: self.generator(batch["conditioning"].shape[2:4])}, nets)
    options = {"num_frames": num_frames, "train": False, "method": "decode"}
    return bound.apply(GENERATOR, self._scaled(latent), embedding, **options)

  def _scaled(self, latent: jax.Array) -> jax.Array:
    """Latents whose parts have their own standard deviations (6.2)."""
    return latent * self._by_part(self.config.latent_scales)

  def _by_part(self, values: Sequence[float]) -> jax.Array:
    """One value per part of the latent, repeated over the part: float32 [1, D]."""
    pairs = zip(values, self.config.latent_sizes, strict=True)
    return jnp.concatenate([jnp.full(size, value, jnp.float32) for value, size in pairs])[None]

  def _views_of(self, video: Video, key: PRNGKey) -> dict[str, Video]:
    """Inputs of the discriminators, by name."""
    frames = resampling.random_frames(key, video, self.config.frames_per_clip)
    return {IMAGE_DISCRIMINATOR: frames, VIDEO_DISCRIMINATOR: video}

  def _discriminate(
    self, bound: BoundNets, label: jax.Array, name: str, videos: tuple[Video, ...]
  ) -> tuple[tuple[jax.Array, ...], NetState]:
    """Logits for every frame from the image discriminator, for every clip from the video discriminator; and the net."""
    if name == VIDEO_DISCRIMINATOR and self.config.video_discriminator_batch_norm:
      # Real and generated clips are normalised by their own statistics. Each call starts from the same spectral
      # vectors, so they advance once.
      results = [apply_discriminator(bound, name, (video,), label) for video in videos]
      return tuple(scores for (scores,), _ in results), results[-1][1]
    scores, net = apply_discriminator(bound, name, videos, label)
    if name == IMAGE_DISCRIMINATOR:
      scores = tuple(score.unconditional + score.conditional for score in scores)
    return scores, net

  def _flow_estimator(self, frozen: Nets) -> FlowEstimator:
    """The optical flow that the motion constraint compares."""
    if not self.config.flow_weights:
      return LucasKanade()
    return functools.partial(BoundNets({FLOW_NETWORK: PWCNet()}, frozen).apply, FLOW_NETWORK)

  def _label(self, label: jax.Array) -> jax.Array:
    return class_labels(label, self.config.num_classes)

  def _check_shape(self, num_frames: int, height: int, width: int, channels: int) -> None:
    c = self.config
    check_frames_per_clip(c, num_frames)
    factors = {
      "generator_multipliers": 2 ** (len(c.generator_multipliers) - 1),
      "image_discriminator_multipliers": 2 ** (len(c.image_discriminator_multipliers) - 1),
      "video_discriminator_widths": 2 ** len(c.video_discriminator_widths),
    }
    check_frames(c, height, width, channels, factors)
    factor = factors["video_discriminator_widths"]
    if num_frames % factor:
      raise UserError(
        f"data.num_frames={num_frames} must be a multiple of {factor} for the {len(c.video_discriminator_widths)} "
        "entries of algorithm.video_discriminator_widths"
      )
