"""Video inbetweening with direct 3D convolutions (Inbetweening)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.algorithm import FrozenNetwork
from vidgen_jax.core.optimizers import make_learning_rate, make_optimizer
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.core.update import LossOutput, Update, num_microbatches
from vidgen_jax.errors import UserError
from vidgen_jax.gans.apply import apply_mutable, net_state
from vidgen_jax.gans.base import Gan, SampleOptions
from vidgen_jax.gans.inbetween import (
  Encoder,
  ImageDiscriminator,
  LatentGenerator,
  StackedEncodings,
  VideoDiscriminator,
  VideoGenerator,
)
from vidgen_jax.gans.inbetween.config import InbetweenConfig
from vidgen_jax.ops import losses, penalties, resampling
from vidgen_jax.ops.latents import draw_latent
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, PRNGKey, Video

ENCODER = "encoder"
LATENT_GENERATOR = "latent_generator"
VIDEO_GENERATOR = "video_generator"
GENERATOR_NETS = (ENCODER, LATENT_GENERATOR, VIDEO_GENERATOR)
IMAGE_DISCRIMINATOR = "image_disc"
VIDEO_DISCRIMINATOR = "video_disc"
DISCRIMINATOR_NETS = (IMAGE_DISCRIMINATOR, VIDEO_DISCRIMINATOR)


@dataclass(frozen=True)
class Inbetween(Gan):
  """The `Algorithm` of Inbetweening: encoder, latent generator, video generator; two discriminators."""

  config: InbetweenConfig

  @property
  def phases(self) -> tuple[str, ...]:
    """A single phase."""
    return ("main",)

  @property
  def microbatches(self) -> int:
    """One for the discriminators and one for the generator, with fresh clips each."""
    return num_microbatches(self.updates("main"))

  @property
  def ema_nets(self) -> tuple[str, ...]:
    """The three generator nets."""
    return GENERATOR_NETS

  @property
  def fixed_length(self) -> bool:
    """Yes: the noise maps (eq. 1) have a value for every frame."""
    return True

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    """The first and the last frame; see `Algorithm.conditioning_indices`.

    Raises:
      UserError: if the networks cannot make clips of this length.
    """
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
      # A coarsest level of one frame would forget the last one.
      raise UserError(
        f"num_frames={num_frames} must be a multiple of {factor} and at least {2 * factor} for the "
        f"{len(c.latent_blocks)} entries of algorithm.latent_blocks"
      )
    return (0, num_frames - 1)

  @property
  def _dtype(self) -> jnp.dtype:
    return jnp.dtype(self.config.compute_dtype)

  def _networks(self, *, num_frames: int, bn_momentum: float = 0.9) -> dict[str, nn.Module]:
    """The generator's modules for clips of a length."""
    c = self.config
    common = {"bn_momentum": bn_momentum, "dtype": self._dtype}
    if c.naive:
      latent_generator = StackedEncodings(dtype=self._dtype)
    else:
      latent_generator = LatentGenerator(
        c.latent_blocks, c.encoding_features, fusion=c.fusion, unroll=c.unroll, remat=c.remat, **common
      )
    return {
      ENCODER: Encoder(c.encoder_widths, c.encoding_features, **common),
      LATENT_GENERATOR: latent_generator,
      VIDEO_GENERATOR: VideoGenerator(
        c.decoder_widths,
        c.channels,
        # 2, 4, 8, ... frames: the bit length of T counts the doublings of two frames.
        time_doublings=num_frames.bit_length() - 2 if c.naive else 0,
        **common,
      ),
    }

  def discriminators(self, *, dtype: jnp.dtype) -> dict[str, nn.Module]:
    """The discriminators' modules."""
    c = self.config
    return {
      IMAGE_DISCRIMINATOR: ImageDiscriminator(c.image_discriminator_widths, dtype=dtype),
      VIDEO_DISCRIMINATOR: VideoDiscriminator(c.video_discriminator_widths, dtype=dtype),
    }

  def networks(self) -> Mapping[str, nn.Module]:
    """All networks by name, as for clips of 16 frames."""
    return self._networks(num_frames=16) | self.discriminators(dtype=self._dtype)

  def frozen_networks(self) -> Mapping[str, FrozenNetwork]:
    """None."""
    return {}

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    """Fresh nets; see `Algorithm.init`.

    Raises:
      UserError: if the networks do not fit clips of this length and size.
    """
    video = to_model_range(batch["video"])
    self._check_shape(*video.shape[1:])
    keys = iter(jax.random.split(key, 5))
    num_frames = video.shape[1]
    modules = self._networks(num_frames=num_frames)
    ends = video[:, jnp.array(self.conditioning_indices(num_frames))]
    noise = jnp.zeros((video.shape[0], self.config.latent_features))

    nets = {ENCODER: net_state(modules[ENCODER].init(next(keys), ends, train=False))}
    encoded = modules[ENCODER].apply(nets[ENCODER].collections, ends, train=False)
    steering = {} if self.config.naive else {"num_frames": num_frames, "train": False}
    nets[LATENT_GENERATOR] = net_state(modules[LATENT_GENERATOR].init(next(keys), encoded, noise, **steering))
    latent = modules[LATENT_GENERATOR].apply(nets[LATENT_GENERATOR].collections, encoded, noise, **steering)
    nets[VIDEO_GENERATOR] = net_state(modules[VIDEO_GENERATOR].init(next(keys), latent, train=False))
    seen = {IMAGE_DISCRIMINATOR: video[:, 0], VIDEO_DISCRIMINATOR: video}
    for name, module in self.discriminators(dtype=jnp.float32).items():
      nets[name] = net_state(module.init(next(keys), seen[name]))
    return nets

  def phase_at(self, step: int) -> str:
    """Always 'main'."""
    del step
    return "main"

  def updates(self, phase: str) -> tuple[Update, ...]:
    """One update of both discriminators, then one of the generator."""
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
      ),
      Update(
        name="gen",
        trains=GENERATOR_NETS,
        refreshes=GENERATOR_NETS,
        loss_fn=self.generator_loss,
        optimizer=make_optimizer(c.generator_optimizer),
        learning_rate=make_learning_rate(c.generator_optimizer),
      ),
    )

  def discriminator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """The sum over both discriminators of log-loss (eqs. 7 and 8) and weighted gradient penalty; see `LossFn`."""
    del frozen, step
    fake_key, real_frame_key, fake_frame_key = jax.random.split(key, 3)
    real = to_model_range(batch["video"])
    fake, _ = self._fake_video(nets, batch, fake_key)
    seen = {
      IMAGE_DISCRIMINATOR: (self._frames(real, real_frame_key), self._frames(fake, fake_frame_key)),
      VIDEO_DISCRIMINATOR: (real, fake),
    }
    total, metrics = jnp.zeros(()), {}
    for name, module in self.discriminators(dtype=jnp.float32).items():
      on_real, on_fake = _steepness(module, nets[name], seen[name])
      loss = losses.log_discriminator_loss(on_real[0], on_fake[0])
      penalty = penalties.gradient_penalty(on_real, on_fake)
      total = total + loss + self.config.gradient_penalty * penalty
      metrics |= {
        f"{name}/loss": loss,
        f"{name}/gradient_penalty": penalty,
        f"{name}/real": jnp.mean(on_real[0]),
        f"{name}/fake": jnp.mean(on_fake[0]),
      }
    return total, LossOutput(nets={}, metrics=metrics)

  def generator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """The non-saturating loss, summed over both discriminators (eq. 9); see `LossFn`."""
    del frozen, step
    fake_key, frame_key = jax.random.split(key)
    fake, refreshed = self._fake_video(nets, batch, fake_key)
    seen = {IMAGE_DISCRIMINATOR: self._frames(fake, frame_key), VIDEO_DISCRIMINATOR: fake}
    total, metrics = jnp.zeros(()), {}
    for name, module in self.discriminators(dtype=self._dtype).items():
      logits = module.apply(nets[name].collections, seen[name].astype(self._dtype))
      loss = losses.nonsaturating_generator_loss(logits)
      total = total + loss
      metrics[f"{name}/loss"] = loss
    return total, LossOutput(nets=refreshed, metrics=metrics)

  def sample(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Video:
    """Whole clips; see `Algorithm.sample`."""
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    return self.predict(nets, batch, latent, num_frames=options.num_frames)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """u, [batch_size, latent_features]; see `SampleOptions.truncation`."""
    return draw_latent(key, (batch_size, self.config.latent_features), truncation=truncation)

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Whole clips for given latents; see `Algorithm.predict`."""
    ends = to_model_range(batch["conditioning"])
    video, _ = self._generate(nets, ends, latent, self._networks(num_frames=num_frames), num_frames, train=False)
    return _with_ends(ends, video)

  def last_blocks(self) -> tuple[int, ...]:
    """See `DecodesBlocks.last_blocks`; the naive baseline has none."""
    blocks = () if self.config.naive else self.config.latent_blocks
    return tuple(range(sum(blocks[:-1]) + 1, sum(blocks) + 1))

  def decode_blocks(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """What the video generator makes of each block of the latent generator's last level (Inbetweening, figure 4).

    Args:
      nets: see `predict`.
      batch: see `predict`.
      latent: see `predict`.
      num_frames: see `predict`.

    Returns:
      Clips [blocks, B, num_frames, H, W, C] in [-1, 1] with the conditioning frames in their places; the last are `predict`'s.

    Raises:
      UserError: if the model is the naive baseline, which has no blocks.
    """
    if self.config.naive:
      raise UserError("the naive baseline has no latent generator whose blocks could be decoded")
    ends = to_model_range(batch["conditioning"])
    modules = self._networks(num_frames=num_frames)
    apply = {name: module.apply for name, module in modules.items()}
    encoded = apply[ENCODER](nets[ENCODER].collections, ends, train=False)
    blocks = apply[LATENT_GENERATOR](
      nets[LATENT_GENERATOR].collections, encoded, latent, num_frames=num_frames, train=False, every_block=True
    )
    decoded = apply[VIDEO_GENERATOR](
      nets[VIDEO_GENERATOR].collections, blocks.reshape(-1, *blocks.shape[2:]), train=False
    )
    decoded = decoded.reshape(*blocks.shape[:2], *decoded.shape[1:])
    return jax.vmap(_with_ends, in_axes=(None, 0))(ends, decoded)

  def batch_moments(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Nets:
    """The generator nets with this batch's own statistics; see `Algorithm.batch_moments`."""
    ends = to_model_range(batch["conditioning"])
    latent = self.latent(key, ends.shape[0], truncation=options.truncation)
    modules = self._networks(num_frames=options.num_frames, bn_momentum=0.0)
    _, refreshed = self._generate(nets, ends, latent, modules, options.num_frames, train=True)
    return {**nets, **refreshed}

  def _generate(
    self, nets: Nets, ends: Video, latent: jax.Array, modules: Mapping[str, nn.Module], num_frames: int, *, train: bool
  ) -> tuple[Video, Nets]:
    """(all frames that the generator makes, its nets with the variables that the pass left)."""
    refreshed: dict[str, NetState] = {}

    def run(name: str, *inputs: Any, **options: Any) -> jax.Array:
      if not train:
        return modules[name].apply(nets[name].collections, *inputs, **options)
      output, refreshed[name] = apply_mutable(modules[name].apply, nets[name], *inputs, **options)
      return output

    encoded = run(ENCODER, ends, train=train)
    steering = {} if self.config.naive else {"num_frames": num_frames, "train": train}
    video = run(VIDEO_GENERATOR, run(LATENT_GENERATOR, encoded, latent, **steering), train=train)
    return video, refreshed

  def _fake_video(self, nets: Nets, batch: Batch, key: PRNGKey) -> tuple[Video, Nets]:
    """Clips whose first and last frame are real, as long as the batch's, and the refreshed generator nets."""
    num_frames = batch["video"].shape[1]
    ends = to_model_range(batch["video"][:, jnp.array(self.conditioning_indices(num_frames))])
    latent = self.latent(key, ends.shape[0])
    modules = self._networks(num_frames=num_frames)
    video, refreshed = self._generate(nets, ends, latent, modules, num_frames, train=True)
    return _with_ends(ends, video), refreshed

  def _frames(self, video: Video, key: PRNGKey) -> jax.Array:
    """Intermediate frames for the image discriminator, drawn uniformly from each clip: [B K, H, W, C] (3.4)."""
    drawn = resampling.random_frames(key, video[:, 1:-1], self.config.frames_per_clip)
    return drawn.reshape(-1, *drawn.shape[2:])

  def _check_shape(self, num_frames: int, height: int, width: int, channels: int) -> None:
    c = self.config
    if channels != c.channels:
      raise UserError(f"data.channels={channels} and algorithm.channels={c.channels} must be equal")
    self.conditioning_indices(num_frames)
    if not 1 <= c.frames_per_clip <= num_frames - 2:
      raise UserError(f"algorithm.frames_per_clip={c.frames_per_clip} must lie in 1..{num_frames - 2}")
    taken = 3 * len(c.video_discriminator_widths)
    if num_frames <= taken:
      raise UserError(
        f"data.num_frames={num_frames} must exceed {taken}: each of the {len(c.video_discriminator_widths)} entries of "
        "algorithm.video_discriminator_widths takes three frames off"
      )
    for name in ("encoder_widths", "image_discriminator_widths", "video_discriminator_widths"):
      factor = 2 ** len(getattr(c, name))
      if height % factor or width % factor:
        raise UserError(
          f"data.resolution gives frames of {height}x{width}, but the {len(getattr(c, name))} entries of "
          f"algorithm.{name} need multiples of {factor}"
        )


def _with_ends(ends: Video, video: Video) -> Video:
  """The video with its first and last frame replaced by the real ones (3.3)."""
  return jnp.concatenate([ends[:, :1], video[:, 1:-1].astype(ends.dtype), ends[:, 1:]], axis=1)


def _steepness(
  module: nn.Module, net: NetState, videos: tuple[jax.Array, jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], ...]:
  """`logits_and_gradients` on real and on generated inputs, in one pass.

  The two sets are interleaved clip by clip, so that every device keeps the clips it has.
  """
  inputs = jnp.stack(videos, axis=1).reshape(-1, *videos[0].shape[1:])
  logits, norms = penalties.logits_and_gradients(lambda x: module.apply(net.collections, x), inputs)
  logits, norms = logits.reshape(-1, 2), norms.reshape(-1, 2)
  return tuple((logits[:, i], norms[:, i]) for i in range(2))
