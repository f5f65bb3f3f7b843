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
from vidgen_jax.gans.base import Gan, SampleOptions, register
from vidgen_jax.gans.common import (
  BoundNets,
  check_channels,
  check_resolution,
  class_labels,
  draw_latent,
  net_state,
  without_batch_stats,
)
from vidgen_jax.gans.discriminators import View, apply_discriminator
from vidgen_jax.gans.mvt.config import MvtConfig
from vidgen_jax.gans.mvt.generator import FrameGenerator, Generator, SequenceGenerator
from vidgen_jax.gans.mvt.motion_constraint import motion_similarity
from vidgen_jax.gans.mvt.video_discriminator import VideoDiscriminator
from vidgen_jax.nn.biggan import ResidualDiscriminator
from vidgen_jax.nn.pwc_net import PWCNet
from vidgen_jax.ops import resampling
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

  @property
  def ema_nets(self) -> tuple[str, ...]:
    return (GENERATOR,)

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
      attention_after=None if c.generator_attention < 0 else c.generator_attention,
      shifted_blocks=c.shifted_blocks,
      remat=c.remat,
      **shared,
    )
    sequence = SequenceGenerator(c.hidden_features, **shared)
    return Generator(sequence, frames, num_classes=c.num_classes, class_features=c.class_features)

  def discriminators(self) -> dict[str, nn.Module]:
    """The discriminators' modules."""
    c = self.config
    image = ResidualDiscriminator(
      tuple(c.image_discriminator_channels * m for m in c.image_discriminator_multipliers),
      num_classes=c.num_classes,
      attention_after=None if c.image_discriminator_attention < 0 else c.image_discriminator_attention,
      remat=c.remat,
      dtype=jnp.dtype(c.compute_dtype),
    )
    video = VideoDiscriminator(
      c.video_discriminator_widths, num_classes=c.num_classes, dtype=jnp.dtype(c.compute_dtype)
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
    keys = iter(jax.random.split(key, 3))
    latent = jnp.zeros((video.shape[0], sum(self.config.latent_sizes)))
    init = functools.partial(self.generator(video.shape[2:4]).init, num_frames=video.shape[1], train=False)
    nets = {GENERATOR: net_state(init(next(keys), latent, label))}
    inputs = self._views_of(video, key)
    for name, module in self.discriminators().items():
      nets[name] = net_state(module.init(next(keys), inputs[name], label, train=False))
    return nets

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
    fake, _ = self._fake_video(nets, batch, fake_key)
    discriminate = functools.partial(self._discriminate, nets, self._label(batch["label"]))
    return discriminators.discriminator_loss(
      discriminate, self._views_of(real, real_frame_key), self._views_of(fake, fake_frame_key)
    )

  def generator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The sum over discriminators of -mean D(fake), and the motion constraint (eq. 6)."""
    del step
    fake_key, frame_key = jax.random.split(key)
    label = self._label(batch["label"])
    fake, generator = self._fake_video(nets, batch, fake_key)
    discriminate = functools.partial(self._discriminate, nets, label)
    loss, metrics = discriminators.generator_loss(discriminate, self._views_of(fake, frame_key))
    if self.config.motion_constraint:
      estimate = self._flow_estimator(frozen)
      real_flow = flow_of_clips(estimate, to_model_range(batch["video"]))
      fake_flow = flow_of_clips(estimate, fake)
      similarity, pairs = motion_similarity(real_flow, fake_flow, label, label, num_classes=self.config.num_classes)
      loss = loss + self.config.motion_constraint * (1.0 - similarity)
      metrics |= {"motion_similarity": similarity, "motion_pairs": pairs}
    return loss, LossOutput(nets={GENERATOR: generator}, metrics=metrics)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """Z_ABC, every part in units of its standard deviation."""
    return draw_latent(key, (batch_size, sum(self.config.latent_sizes)), truncation=truncation)

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Clips of the batch's classes; the batch has no conditioning frames, but their shape gives the frames' size."""
    bound = self._bind(nets, batch["conditioning"])
    label = self._label(batch["label"])
    return bound.apply(GENERATOR, self._scaled(latent), label, num_frames=num_frames, train=False)

  def latent_parts(self) -> Mapping[str, tuple[int, int]]:
    """Index ranges of z_A, z_B and z_C; see `MixesClasses.latent_parts`."""
    ends = list(itertools.accumulate(self.config.latent_sizes, initial=0))
    names = [f"z_{letter}" for letter in string.ascii_uppercase[: len(ends) - 1]]
    return dict(zip(names, itertools.pairwise(ends), strict=True))

  def embed_classes(self, nets: Nets, label: jax.Array) -> jax.Array:
    """e(y); see `MixesClasses.embed_classes`."""
    bound = BoundNets({GENERATOR: self.generator((0, 0))}, nets)
    return bound.apply(GENERATOR, self._label(label), method="embed")

  def predict_mixed(
    self, nets: Nets, batch: Batch, latent: jax.Array, embedding: jax.Array, *, num_frames: int
  ) -> Video:
    """See `MixesClasses.predict_mixed`."""
    bound = self._bind(nets, batch["conditioning"])
    options = {"num_frames": num_frames, "train": False, "method": "decode"}
    return bound.apply(GENERATOR, self._scaled(latent), embedding, **options)

  def batch_moments(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Nets:
    # The sequence generator's statistics are per time step, and the sampled length may differ from the trained length.
    nets = {**nets, GENERATOR: without_batch_stats(nets[GENERATOR])}
    bound = self._bind(nets, batch["conditioning"], bn_momentum=0.0)
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    _, net = self._generate(bound, latent, batch["label"], num_frames=options.num_frames)
    return {**nets, GENERATOR: net}

  def _bind(self, nets: Nets, frames: Video, *, bn_momentum: float = 0.9) -> BoundNets:
    """The generator for frames [B, T, H, W, C] of this size, bound to its net."""
    return BoundNets({GENERATOR: self.generator(frames.shape[2:4], bn_momentum=bn_momentum)}, nets)

  def _generate(
    self, bound: BoundNets, latent: jax.Array, label: jax.Array, *, num_frames: int
  ) -> tuple[Video, NetState]:
    """A forward pass in train mode: (clips, generator with updated variables)."""
    options = {"num_frames": num_frames, "train": True}
    return bound.apply_mutable(GENERATOR, self._scaled(latent), self._label(label), **options)

  def _scaled(self, latent: jax.Array) -> jax.Array:
    """Latents whose parts have their own standard deviations (6.2)."""
    pairs = zip(self.config.latent_scales, self.config.latent_sizes, strict=True)
    scales = jnp.concatenate([jnp.full(size, scale, latent.dtype) for scale, size in pairs])
    return latent * scales[None]

  def _fake_video(self, nets: Nets, batch: Batch, key: PRNGKey) -> tuple[Video, NetState]:
    """Returns (generated clips with the shape and the classes of the batch's, generator with updated variables)."""
    latent = self.latent(key, batch["label"].shape[0])
    bound = self._bind(nets, batch["video"])
    return self._generate(bound, latent, batch["label"], num_frames=batch["video"].shape[1])

  def _views_of(self, video: Video, key: PRNGKey) -> dict[str, Video]:
    """Inputs of the discriminators, by name."""
    frames = resampling.random_frames(key, video, self.config.frames_per_clip)
    return {IMAGE_DISCRIMINATOR: frames, VIDEO_DISCRIMINATOR: video}

  def _discriminate(
    self, nets: Nets, label: jax.Array, name: str, videos: tuple[Video, ...]
  ) -> tuple[tuple[jax.Array, ...], NetState]:
    """Logits for every frame from the image discriminator, for every clip from the video discriminator."""
    apply = functools.partial(self.discriminators()[name].apply, train=True)
    scores, net = apply_discriminator(apply, nets[name], videos, label)
    if name == IMAGE_DISCRIMINATOR:
      scores = tuple(score.unconditional + score.conditional for score in scores)
    return scores, net

  def _flow_estimator(self, frozen: Nets) -> FlowEstimator:
    """The optical flow that the motion constraint compares."""
    modules = {name: network.module for name, network in self.frozen_networks().items()}
    if FLOW_NETWORK not in modules:
      return LucasKanade()
    return functools.partial(BoundNets(modules, frozen).apply, FLOW_NETWORK)

  def _label(self, label: jax.Array) -> jax.Array:
    return class_labels(label, self.config.num_classes)

  def _check_shape(self, num_frames: int, height: int, width: int, channels: int) -> None:
    c = self.config
    check_channels(c, channels)
    if c.frames_per_clip > num_frames:
      raise UserError(f"algorithm.frames_per_clip={c.frames_per_clip} exceeds data.num_frames={num_frames}")
    factors = {
      "generator_multipliers": 2 ** (len(c.generator_multipliers) - 1),
      "image_discriminator_multipliers": 2 ** (len(c.image_discriminator_multipliers) - 1),
      "video_discriminator_widths": 2 ** len(c.video_discriminator_widths),
    }
    check_resolution(c, height, width, factors)
    factor = factors["video_discriminator_widths"]
    if num_frames % factor:
      raise UserError(
        f"data.num_frames={num_frames} must be a multiple of {factor} for the {len(c.video_discriminator_widths)} "
        "entries of algorithm.video_discriminator_widths"
      )
