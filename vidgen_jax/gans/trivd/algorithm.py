"""TrIVD-GAN-FP bound into updates: one generator (with encoder) and one net per discriminator."""

import functools
from collections.abc import Mapping, Sequence
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
from vidgen_jax.gans.common import BoundNets, check_frames, check_frames_per_clip, class_labels, draw_latent, init_nets
from vidgen_jax.gans.discriminators import apply_discriminator, apply_view
from vidgen_jax.gans.settings import View
from vidgen_jax.gans.trivd.config import DECOMPOSITIONS, TrivdConfig
from vidgen_jax.gans.trivd.generator import Generator
from vidgen_jax.gans.trivd.motion import combine_flows, expected_flow
from vidgen_jax.nn.biggan import ResidualDiscriminator
from vidgen_jax.nn.recurrent import MOTION, RECURRENT_UNITS
from vidgen_jax.ops import losses
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, PRNGKey, Video

GENERATOR = "generator"


@register("trivd", TrivdConfig)
@dataclass(frozen=True)
class Trivd(Gan):
  """TrIVD-GAN-FP."""

  config: TrivdConfig

  ema_nets = (GENERATOR,)

  @property
  def views(self) -> tuple[View, ...]:
    """Inputs of the discriminators."""
    return DECOMPOSITIONS[self.config.decomposition]

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    tc = self.config.conditioning_frames
    if num_frames <= tc:
      raise UserError(f"num_frames={num_frames} leaves nothing to predict after the {tc} conditioning frames")
    return tuple(range(tc))

  def generator(self, *, bn_momentum: float = 0.9) -> Generator:
    """The generator module."""
    c = self.config
    stages = len(c.generator_multipliers)
    return Generator(
      stage_widths=tuple(c.generator_channels * m for m in c.generator_multipliers),
      upsampled_widths=tuple(c.generator_channels * m for m in c.upsampled_multipliers),
      encoder_widths=tuple(c.discriminator_channels * m for m in c.discriminator_multipliers[:stages]),
      recurrent_unit=c.recurrent_unit,
      blocks_per_stage=c.generator_blocks,
      num_classes=c.num_classes,
      class_features=c.class_features,
      channels=c.channels,
      bn_momentum=bn_momentum,
      spectral_norm=c.spectral_norm,
      remat=c.remat,
      dtype=jnp.dtype(c.compute_dtype),
    )

  def discriminator(self, view: View) -> ResidualDiscriminator:
    """The discriminator module of a view."""
    c = self.config
    return ResidualDiscriminator(
      widths=tuple(c.discriminator_channels * m for m in c.discriminator_multipliers),
      num_temporal_blocks=c.temporal_blocks if view.on == "video" else 0,
      downsample_time=c.downsample_time,
      num_classes=c.num_classes,
      spectral_norm=c.spectral_norm,
      remat=c.remat,
      dtype=jnp.dtype(c.compute_dtype),
    )

  def networks(self) -> Mapping[str, nn.Module]:
    return {GENERATOR: self.generator(), **self._discriminators()}

  def _discriminators(self) -> dict[str, ResidualDiscriminator]:
    return {view.net: self.discriminator(view) for view in self.views}

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    self._check_shape(*batch["video"].shape[1:])
    video, label = to_model_range(batch["video"]), self._label(batch)
    tc, num_frames = self.config.conditioning_frames, video.shape[1]
    latent = jnp.zeros((video.shape[0], self.config.latent_features))
    options = {"label": label, "train": False}
    inputs: dict[str, dict[str, Any]] = {
      name: {"video": view, **options} for name, view in self._views_of(video, key).items()
    }
    inputs[GENERATOR] = {"conditioning": video[:, :tc], "latent": latent, "num_frames": num_frames - tc, **options}
    return init_nets(key, self.networks(), inputs)

  def updates(self, phase: str) -> tuple[Update, ...]:
    del phase
    c = self.config
    discriminators = tuple(view.net for view in self.views)
    return (
      adam_update(
        "disc", discriminators, self.discriminator_loss, c.discriminator_optimizer, repeats=c.discriminator_steps
      ),
      adam_update("gen", (GENERATOR,), self.generator_loss, c.generator_optimizer),
    )

  def discriminator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The hinge loss (eq. 13), summed over discriminators."""
    del frozen, step
    fake_key, real_view_key, fake_view_key = jax.random.split(key, 3)
    real = to_model_range(batch["video"])
    fake, _ = self.fake_video(nets, batch, fake_key)
    bound = BoundNets(self._discriminators(), nets)
    discriminate = functools.partial(self._discriminate, bound, self._label(batch))
    return discriminators.discriminator_loss(
      discriminate, self._views_of(real, real_view_key), self._views_of(fake, fake_view_key)
    )

  def generator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The sum over discriminators of -mean D(fake) (eq. 14), and the orthogonality penalty."""
    del frozen, step
    fake_key, view_key = jax.random.split(key)
    fake, refreshed = self.fake_video(nets, batch, fake_key)
    discriminate = functools.partial(self._discriminate, BoundNets(self._discriminators(), nets), self._label(batch))
    fakes = self._views_of(fake, view_key)
    loss, metrics = discriminators.generator_loss(discriminate, fakes, losses.hinge_generator_loss)
    metrics["orthogonality"] = losses.orthogonality(nets[GENERATOR].params)
    loss = loss + self.config.orthogonal_penalty * metrics["orthogonality"]
    return loss, LossOutput(nets=refreshed, metrics=metrics)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    return draw_latent(key, (batch_size, self.config.latent_features), truncation=truncation)

  def generate(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, train: bool = False, bn_momentum: float = 0.9
  ) -> tuple[Video, Nets]:
    bound = BoundNets({GENERATOR: self.generator(bn_momentum=bn_momentum)}, nets)
    conditioning = to_model_range(batch["conditioning"])
    options = {"num_frames": num_frames - len(self.conditioning_indices(num_frames)), "train": train}
    predicted, generator = bound.apply_mutable(GENERATOR, conditioning, latent, self._label(batch), **options)
    return jnp.concatenate([conditioning, predicted], axis=1), {GENERATOR: generator}

  def motion_levels(self) -> int:
    """Number of the generator's stages."""
    moving = [name for name, unit in RECURRENT_UNITS.items() if unit.moves]
    if self.config.recurrent_unit not in moving:
      raise UserError(
        f"algorithm.recurrent_unit={self.config.recurrent_unit!r} moves no content, so the model shows no motion; "
        f"units that do: {', '.join(moving)}"
      )
    return len(self.config.generator_multipliers)

  def predict_motion(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, levels: Sequence[int]
  ) -> tuple[Video, jax.Array]:
    """Clips and their motion, read from the warping kernels of the stages."""
    conditioning = to_model_range(batch["conditioning"])
    bound = BoundNets({GENERATOR: self.generator()}, nets)
    options = {"num_frames": num_frames - len(self.conditioning_indices(num_frames)), "mutable": [MOTION]}
    inputs = (conditioning, latent, self._label(batch))
    predicted, variables = bound.apply(GENERATOR, *inputs, train=False, **options)
    flows = [expected_flow(variables[MOTION][f"stage_{level}_unit"]["kernels"]) for level in levels]
    video = jnp.concatenate([conditioning, predicted], axis=1)
    return video, combine_flows(flows, size=video.shape[2:4])

  def _views_of(self, video: Video, key: PRNGKey) -> dict[str, Video]:
    """Inputs of the discriminators, by name."""
    c = self.config
    options: dict[str, Any] = {
      "first_frame": c.conditioning_frames if c.frames_from == "predicted" else 0,
      "num_frames": c.frames_per_clip,
      "factor": c.downsampling,
    }
    return {
      view.net: apply_view(view, video, jax.random.fold_in(key, i), **options) for i, view in enumerate(self.views)
    }

  def _discriminate(
    self, bound: BoundNets, label: jax.Array, name: str, videos: tuple[Video, ...]
  ) -> tuple[tuple[jax.Array, ...], NetState]:
    scores, net = apply_discriminator(bound, name, videos, label)
    head = getattr(losses, self.config.head)
    return tuple(head(score.unconditional, score.conditional) for score in scores), net

  def _label(self, batch: Batch) -> jax.Array:
    return class_labels(batch["label"], self.config.num_classes)

  def _check_shape(self, num_frames: int, height: int, width: int, channels: int) -> None:
    c = self.config
    divisor = max(c.downsampling if view.spatial != "full" else 1 for view in self.views)
    factors = {
      "generator_multipliers": 2 ** len(c.generator_multipliers),
      "discriminator_multipliers": divisor * 2 ** (len(c.discriminator_multipliers) - 1),
    }
    check_frames(c, height, width, channels, factors)
    tc = len(self.conditioning_indices(num_frames))
    available = num_frames - (tc if c.frames_from == "predicted" else 0)
    if any(view.on == "frames" for view in self.views):
      check_frames_per_clip(c, available)
    # The last block does not downsample.
    halvings = min(c.temporal_blocks, len(c.discriminator_multipliers) - 1)
    if c.downsample_time and num_frames < 2**halvings:
      raise UserError(
        f"data.num_frames={num_frames} cannot be halved {halvings} times; "
        "set algorithm.downsample_time=false or lower algorithm.temporal_blocks"
      )
