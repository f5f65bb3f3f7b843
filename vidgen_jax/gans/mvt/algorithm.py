"""MVT-GAN: clips of a class from noise (MVT-GAN)."""

import functools
import itertools
import string
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.algorithm import FrozenNetwork
from vidgen_jax.core.optimizers import make_learning_rate, make_optimizer
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.core.update import LossOutput, Update, num_microbatches
from vidgen_jax.errors import UserError
from vidgen_jax.gans.apply import apply_discriminator, apply_mutable, net_state
from vidgen_jax.gans.base import Gan, SampleOptions
from vidgen_jax.gans.mvt import Generator, VideoDiscriminator
from vidgen_jax.gans.mvt.config import MvtConfig
from vidgen_jax.gans.views import View
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.pwc_net import PWCNet
from vidgen_jax.nn.residual_discriminator import ResidualDiscriminator
from vidgen_jax.ops import losses, resampling
from vidgen_jax.ops.latents import draw_latent
from vidgen_jax.ops.motion_constraint import motion_similarity
from vidgen_jax.ops.optical_flow import FlowEstimator, LucasKanade, flow_of_clips
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, PRNGKey, Video

GENERATOR = "generator"
IMAGE_DISCRIMINATOR = "image_disc"
VIDEO_DISCRIMINATOR = "video_disc"
FLOW_NETWORK = "flow"
DISCRIMINATOR_NETS = (IMAGE_DISCRIMINATOR, VIDEO_DISCRIMINATOR)
VIEWS = (
  View(net=IMAGE_DISCRIMINATOR, on="frames", spatial="full"),
  View(net=VIDEO_DISCRIMINATOR, on="video", spatial="full"),
)


@dataclass(frozen=True)
class Mvt(Gan):
  """The `Algorithm` of MVT-GAN: a generator, a discriminator of frames and one of clips."""

  config: MvtConfig

  @property
  def phases(self) -> tuple[str, ...]:
    """A single phase."""
    return ("main",)

  @property
  def microbatches(self) -> int:
    """One per discriminator step and one for the generator, with fresh clips each."""
    return num_microbatches(self.updates("main"))

  @property
  def ema_nets(self) -> tuple[str, ...]:
    """The generator."""
    return (GENERATOR,)

  @property
  def fixed_length(self) -> bool:
    """No: the sequence generator goes on for as long as it is asked to."""
    return False

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    """None; see `Algorithm.conditioning_indices`.

    Raises:
      UserError: if clips have no frame.
    """
    if num_frames < 1:
      raise UserError(f"num_frames={num_frames} must be at least 1")
    return ()

  @property
  def _dtype(self) -> jnp.dtype:
    return jnp.dtype(self.config.compute_dtype)

  def generator(self, size: tuple[int, int], *, bn_momentum: float = 0.9) -> Generator:
    """The generator module for frames of a (height, width)."""
    c = self.config
    factor = 2 ** (len(c.generator_multipliers) - 1)
    return Generator(
      tuple(c.generator_channels * m for m in c.generator_multipliers),
      num_classes=c.num_classes,
      class_features=c.class_features,
      hidden_features=c.hidden_features,
      first_size=(size[0] // factor, size[1] // factor),
      channels=c.channels,
      attention_after=None if c.generator_attention < 0 else c.generator_attention,
      shifted_blocks=c.shifted_blocks,
      bn_momentum=bn_momentum,
      remat=c.remat,
      dtype=self._dtype,
    )

  def discriminators(self) -> dict[str, nn.Module]:
    """The discriminators' modules."""
    c = self.config
    image = ResidualDiscriminator(
      tuple(c.image_discriminator_channels * m for m in c.image_discriminator_multipliers),
      num_classes=c.num_classes,
      attention_after=None if c.image_discriminator_attention < 0 else c.image_discriminator_attention,
      remat=c.remat,
      dtype=self._dtype,
    )
    video = VideoDiscriminator(c.video_discriminator_widths, num_classes=c.num_classes, dtype=self._dtype)
    return {IMAGE_DISCRIMINATOR: image, VIDEO_DISCRIMINATOR: video}

  @property
  def views(self) -> tuple[View, ...]:
    """What the discriminators look at: frames drawn at random, and the clip."""
    return VIEWS

  def networks(self) -> Mapping[str, nn.Module]:
    """All networks by name, as for frames of 128x128."""
    return {GENERATOR: self.generator((128, 128))} | self.discriminators()

  def frozen_networks(self) -> Mapping[str, FrozenNetwork]:
    """PWC-Net, if the motion constraint is to use it."""
    if not self.config.flow_weights:
      return {}
    return {FLOW_NETWORK: FrozenNetwork(module=PWCNet(), weights=self.config.flow_weights, network="pwc_net")}

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    """Fresh nets; see `Algorithm.init`.

    Raises:
      UserError: if the networks do not fit clips of this length and size.
    """
    self._check_shape(*batch["video"].shape[1:])
    video, label = to_model_range(batch["video"]), self._label(batch)
    keys = iter(jax.random.split(key, 3))
    latent = jnp.zeros((video.shape[0], sum(self.config.latent_sizes)))
    generator = self.generator(video.shape[2:4])
    variables = generator.init(next(keys), latent, label, num_frames=video.shape[1], train=False)
    nets = {GENERATOR: net_state(variables)}
    for name, module in self.discriminators().items():
      nets[name] = net_state(module.init(next(keys), self._seen(name, video, key), label, train=False))
    return nets

  def phase_at(self, step: int) -> str:
    """Always 'main'."""
    del step
    return "main"

  def updates(self, phase: str) -> tuple[Update, ...]:
    """Updates of both discriminators, then one of the generator."""
    del phase
    c = self.config
    return (
      Update(
        name="disc",
        trains=DISCRIMINATOR_NETS,
        refreshes=DISCRIMINATOR_NETS,
        loss_fn=self.discriminator_loss,
        optimizer=make_optimizer(c.discriminator_optimizer),
        learning_rate=make_learning_rate(c.discriminator_optimizer),
        repeats=c.discriminator_steps,
      ),
      Update(
        name="gen",
        trains=(GENERATOR,),
        refreshes=(GENERATOR,),
        loss_fn=self.generator_loss,
        optimizer=make_optimizer(c.generator_optimizer),
        learning_rate=make_learning_rate(c.generator_optimizer),
      ),
    )

  def discriminator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """The sum over both discriminators of the hinge loss (eqs. 2 and 3, as a minimisation); see `LossFn`.

    Generated clips have the classes of the real ones.
    """
    del frozen, step
    fake_key, real_frame_key, fake_frame_key = jax.random.split(key, 3)
    label = self._label(batch)
    real = to_model_range(batch["video"])
    fake, _ = self._fake_video(nets[GENERATOR], batch, fake_key)
    total, refreshed, metrics = jnp.zeros(()), {}, {}
    for name, module in self.discriminators().items():
      seen = (self._seen(name, real, real_frame_key), self._seen(name, fake, fake_frame_key))
      (on_real, on_fake), refreshed[name] = _apply_discriminator(module, nets[name], seen, label)
      loss = losses.hinge_discriminator_loss(on_real, on_fake)
      total = total + loss
      metrics |= {f"{name}/loss": loss, f"{name}/real": jnp.mean(on_real), f"{name}/fake": jnp.mean(on_fake)}
    return total, LossOutput(nets=refreshed, metrics=metrics)

  def generator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """The sum over discriminators of -mean D(fake), and the motion constraint (eq. 6); see `LossFn`."""
    del step
    fake_key, frame_key = jax.random.split(key)
    label = self._label(batch)
    fake, generator = self._fake_video(nets[GENERATOR], batch, fake_key)
    total, metrics = jnp.zeros(()), {}
    for name, module in self.discriminators().items():
      (on_fake,), _ = _apply_discriminator(module, nets[name], (self._seen(name, fake, frame_key),), label)
      loss = losses.hinge_generator_loss(on_fake)
      total = total + loss
      metrics[f"{name}/loss"] = loss
    if self.config.motion_constraint:
      estimate = self._flow_estimator(frozen)
      real_flow = flow_of_clips(estimate, to_model_range(batch["video"]))
      fake_flow = flow_of_clips(estimate, fake)
      similarity, pairs = motion_similarity(real_flow, fake_flow, label, label, num_classes=self.config.num_classes)
      total = total + self.config.motion_constraint * (1.0 - similarity)
      metrics |= {"motion_similarity": similarity, "motion_pairs": pairs}
    return total, LossOutput(nets={GENERATOR: generator}, metrics=metrics)

  def sample(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Video:
    """Clips of the batch's classes; see `Algorithm.sample`. `given` holds no frame, its shape gives the size."""
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    return self.predict(nets, batch, latent, num_frames=options.num_frames)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """Z_ABC in standard deviations of its parts, [batch_size, sum of the parts]; see `SampleOptions.truncation`."""
    return draw_latent(key, (batch_size, sum(self.config.latent_sizes)), truncation=truncation)

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Clips for given latents; see `Algorithm.predict`."""
    generator = self.generator(batch["conditioning"].shape[2:4])
    apply = functools.partial(generator.apply, num_frames=num_frames, train=False)
    return apply(nets[GENERATOR].collections, self._scaled(latent), self._label(batch))

  def latent_parts(self) -> Mapping[str, tuple[int, int]]:
    """z_A, z_B, z_C; see `MixesClasses.latent_parts`."""
    ends = list(itertools.accumulate(self.config.latent_sizes, initial=0))
    names = [f"z_{letter}" for letter in string.ascii_uppercase[: len(ends) - 1]]
    return dict(zip(names, itertools.pairwise(ends), strict=True))

  def embed_classes(self, nets: Nets, label: jax.Array) -> jax.Array:
    """e(y); see `MixesClasses.embed_classes`."""
    generator = self.generator((0, 0))
    return generator.apply(nets[GENERATOR].collections, self._label({"label": label}), method=generator.embed)

  def predict_mixed(
    self, nets: Nets, batch: Batch, latent: jax.Array, embedding: jax.Array, *, num_frames: int
  ) -> Video:
    """Clips for given latents and class embeddings; see `MixesClasses.predict_mixed`."""
    generator = self.generator(batch["conditioning"].shape[2:4])
    apply = functools.partial(generator.apply, num_frames=num_frames, train=False, method=generator.decode)
    return apply(nets[GENERATOR].collections, self._scaled(latent), embedding)

  def batch_moments(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Nets:
    """The generator with this batch's own statistics, for clips of any length; see `Algorithm.batch_moments`."""
    # Dropped, not overwritten: the sequence generator's are per time step, and the length may differ.
    kept = {name: value for name, value in nets[GENERATOR].variables.items() if name != BATCH_STATS}
    net = nets[GENERATOR].replace(variables=kept)
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    module = self.generator(batch["conditioning"].shape[2:4], bn_momentum=0.0)
    _, net = self._generate(module, net, latent, self._label(batch), num_frames=options.num_frames)
    return {**nets, GENERATOR: net}

  def _generate(
    self, module: Generator, net: NetState, latent: jax.Array, label: jax.Array, *, num_frames: int
  ) -> tuple[Video, NetState]:
    """A forward pass in train mode: (clips, the net with refreshed variables)."""
    apply = functools.partial(module.apply, num_frames=num_frames, train=True)
    return apply_mutable(apply, net, self._scaled(latent), label)

  def _scaled(self, latent: jax.Array) -> jax.Array:
    """Latents whose parts have their own standard deviations (6.2)."""
    pairs = zip(self.config.latent_scales, self.config.latent_sizes, strict=True)
    scales = jnp.concatenate([jnp.full(size, scale, latent.dtype) for scale, size in pairs])
    return latent * scales[None]

  def _fake_video(self, net: NetState, batch: Batch, key: PRNGKey) -> tuple[Video, NetState]:
    """Clips of the shape and the classes of the batch's, and the refreshed generator."""
    _, num_frames, height, width, _ = batch["video"].shape
    latent = self.latent(key, batch["label"].shape[0])
    module = self.generator((height, width))
    return self._generate(module, net, latent, self._label(batch), num_frames=num_frames)

  def _seen(self, name: str, video: Video, key: PRNGKey) -> Video:
    """What a discriminator is shown of clips."""
    if name == IMAGE_DISCRIMINATOR:
      return resampling.random_frames(key, video, self.config.frames_per_clip)
    return video

  def _flow_estimator(self, frozen: Mapping[str, NetState]) -> FlowEstimator:
    """What the motion constraint sees motion with."""
    networks = self.frozen_networks()
    if FLOW_NETWORK not in networks:
      return LucasKanade()
    return functools.partial(networks[FLOW_NETWORK].module.apply, frozen[FLOW_NETWORK].collections)

  def _label(self, batch: Batch) -> jax.Array:
    return batch["label"] if self.config.num_classes > 1 else jnp.zeros_like(batch["label"])

  def _check_shape(self, num_frames: int, height: int, width: int, channels: int) -> None:
    c = self.config
    if channels != c.channels:
      raise UserError(f"data.channels={channels} and algorithm.channels={c.channels} must be equal")
    if c.frames_per_clip > num_frames:
      raise UserError(f"algorithm.frames_per_clip={c.frames_per_clip} exceeds data.num_frames={num_frames}")
    factors = {
      "generator_multipliers": 2 ** (len(c.generator_multipliers) - 1),
      "image_discriminator_multipliers": 2 ** (len(c.image_discriminator_multipliers) - 1),
      "video_discriminator_widths": 2 ** len(c.video_discriminator_widths),
    }
    for name, factor in factors.items():
      if height % factor or width % factor:
        raise UserError(
          f"data.resolution gives frames of {height}x{width}, but the {len(getattr(c, name))} entries of "
          f"algorithm.{name} need multiples of {factor}"
        )
    factor = factors["video_discriminator_widths"]
    if num_frames % factor:
      raise UserError(
        f"data.num_frames={num_frames} must be a multiple of {factor} for the {len(c.video_discriminator_widths)} "
        "entries of algorithm.video_discriminator_widths"
      )


def _apply_discriminator(
  module: nn.Module, net: NetState, videos: tuple[Video, ...], label: jax.Array
) -> tuple[tuple[jax.Array, ...], NetState]:
  """A discriminator's logits on all `videos`: one for each frame that it sees, or one for each clip."""
  scores, net = apply_discriminator(functools.partial(module.apply, train=True), net, videos, label)
  if isinstance(module, ResidualDiscriminator):
    scores = tuple(score.unconditional + score.conditional for score in scores)
  return scores, net
