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
from vidgen_jax.gans.base import Gan, SampleOptions, register
from vidgen_jax.gans.common import (
  apply_mutable,
  check_channels,
  check_resolution,
  class_labels,
  draw_latent,
  net_state,
  without_batch_stats,
)
from vidgen_jax.gans.discriminators import View, apply_discriminator, apply_view
from vidgen_jax.gans.trivd.config import DECOMPOSITIONS, HEADS, TrivdConfig
from vidgen_jax.gans.trivd.generator import Generator
from vidgen_jax.gans.trivd.motion import check_moves, combine_flows, expected_flow
from vidgen_jax.nn.biggan import ResidualDiscriminator
from vidgen_jax.nn.recurrent import MOTION
from vidgen_jax.ops import losses
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, PRNGKey, Variables, Video

GENERATOR = "generator"


@register("trivd", TrivdConfig)
@dataclass(frozen=True)
class Trivd(Gan):
  """TrIVD-GAN-FP."""

  config: TrivdConfig

  @property
  def ema_nets(self) -> tuple[str, ...]:
    return (GENERATOR,)

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
      encoder_widths=tuple(c.discriminator_channels * m for m in c.discriminator_multipliers[:stages]),
      recurrent_unit=c.recurrent_unit,
      blocks_per_stage=c.generator_blocks,
      num_classes=c.num_classes,
      class_features=c.class_features,
      channels=c.channels,
      bn_momentum=bn_momentum,
      spectral_norm=c.spectral_norm,
      unroll=c.unroll,
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
    num_frames = video.shape[1]
    tc = len(self.conditioning_indices(num_frames))
    latent = jnp.zeros((video.shape[0], self.config.latent_features))
    keys = iter(jax.random.split(key, 1 + len(self.views)))
    init = functools.partial(self.generator().init, num_frames=num_frames - tc, train=False)
    nets = {GENERATOR: net_state(init(next(keys), video[:, :tc], latent, label))}
    inputs = self._views_of(video, key)
    for name, module in self._discriminators().items():
      nets[name] = net_state(module.init(next(keys), inputs[name], label, train=False))
    return nets

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
    fake, _ = self._fake_video(nets[GENERATOR], batch, fake_key)
    discriminate = functools.partial(self._discriminate, nets, self._label(batch))
    return discriminators.discriminator_loss(
      discriminate, self._views_of(real, real_view_key), self._views_of(fake, fake_view_key)
    )

  def generator_loss(self, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array) -> Loss:
    """The sum over discriminators of -mean D(fake) (eq. 14), and the orthogonality penalty."""
    del frozen, step
    fake_key, view_key = jax.random.split(key)
    fake, generator = self._fake_video(nets[GENERATOR], batch, fake_key)
    discriminate = functools.partial(self._discriminate, nets, self._label(batch))
    loss, metrics = discriminators.generator_loss(discriminate, self._views_of(fake, view_key))
    metrics["orthogonality"] = losses.orthogonality(nets[GENERATOR].params)
    loss = loss + self.config.orthogonal_penalty * metrics["orthogonality"]
    return loss, LossOutput(nets={GENERATOR: generator}, metrics=metrics)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    return draw_latent(key, (batch_size, self.config.latent_features), truncation=truncation)

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    return self._predict(nets, batch, latent, num_frames=num_frames)[0]

  def motion_levels(self) -> int:
    """One level per stage of the generator; see `PredictsMotion.motion_levels`."""
    check_moves(self.config.recurrent_unit)
    return len(self.config.generator_multipliers)

  def predict_motion(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, levels: Sequence[int]
  ) -> tuple[Video, jax.Array]:
    """Clips and their motion, read from the warping kernels of the stages; see `PredictsMotion.predict_motion`."""
    video, variables = self._predict(nets, batch, latent, num_frames=num_frames, mutable=(MOTION,))
    flows = [expected_flow(variables[MOTION][f"stage_{level}_unit"]["kernels"]) for level in levels]
    return video, combine_flows(flows, size=video.shape[2:4])

  def batch_moments(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Nets:
    # Statistics are per time step, and the sampled length may differ from the trained length.
    net = without_batch_stats(nets[GENERATOR])
    _, net = self._generate(net, batch, key, options=options, module=self.generator(bn_momentum=0.0))
    return {**nets, GENERATOR: net}

  def _predict(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, mutable: tuple[str, ...] = ()
  ) -> tuple[Video, Variables]:
    """Returns (whole clips, the generator's `mutable` collections)."""
    conditioning = to_model_range(batch["conditioning"])
    predicted, variables = self.generator().apply(
      nets[GENERATOR].collections,
      conditioning,
      latent,
      self._label(batch),
      num_frames=num_frames - len(self.conditioning_indices(num_frames)),
      train=False,
      mutable=list(mutable),
    )
    return jnp.concatenate([conditioning, predicted], axis=1), variables

  def _generate(
    self, net: NetState, batch: Batch, key: PRNGKey, *, options: SampleOptions, module: Generator
  ) -> tuple[Video, NetState]:
    """A forward pass in train mode: (predicted frames, generator with updated variables); batch as for `sample`."""
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    num_frames = options.num_frames - len(self.conditioning_indices(options.num_frames))
    apply = functools.partial(module.apply, num_frames=num_frames, train=True)
    return apply_mutable(apply, net, to_model_range(batch["conditioning"]), latent, self._label(batch))

  def _fake_video(self, net: NetState, batch: Batch, key: PRNGKey) -> tuple[Video, NetState]:
    """Returns (real conditioning frames followed by predicted frames, generator with updated variables)."""
    conditioning = batch["video"][:, : self.config.conditioning_frames]
    options = SampleOptions(num_frames=batch["video"].shape[1])
    known = {"conditioning": conditioning, "label": batch["label"]}
    predicted, net = self._generate(net, known, key, options=options, module=self.generator())
    return jnp.concatenate([to_model_range(conditioning), predicted], axis=1), net

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
    self, nets: Nets, label: jax.Array, name: str, videos: tuple[Video, ...]
  ) -> tuple[tuple[jax.Array, ...], NetState]:
    apply = functools.partial(self._discriminators()[name].apply, train=True)
    scores, net = apply_discriminator(apply, nets[name], videos, label)
    head = HEADS[self.config.head]
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
    check_resolution(c, height, width, factors)
    check_channels(c, channels)
    tc = len(self.conditioning_indices(num_frames))
    available = num_frames - (tc if c.frames_from == "predicted" else 0)
    if any(view.on == "frames" for view in self.views) and c.frames_per_clip > available:
      raise UserError(f"algorithm.frames_per_clip={c.frames_per_clip} exceeds the {available} frames to draw from")
    # The last block does not downsample.
    halvings = min(c.temporal_blocks, len(c.discriminator_multipliers) - 1)
    if c.downsample_time and num_frames < 2**halvings:
      raise UserError(
        f"data.num_frames={num_frames} cannot be halved {halvings} times; "
        "set algorithm.downsample_time=false or lower algorithm.temporal_blocks"
      )
