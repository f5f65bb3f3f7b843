"""TrIVD-GAN-FP: video prediction with several discriminators (TrIVD-GAN-FP)."""

import functools
from collections.abc import Mapping, Sequence
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
from vidgen_jax.gans.trivd import Generator, check_moves, stage_kernels
from vidgen_jax.gans.trivd.config import HEADS, TrivdConfig
from vidgen_jax.gans.views import DECOMPOSITIONS, View, apply_view
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.recurrent import MOTION
from vidgen_jax.nn.residual_discriminator import ResidualDiscriminator
from vidgen_jax.ops import losses, penalties
from vidgen_jax.ops.latents import draw_latent
from vidgen_jax.ops.motion import combine_flows, expected_flow
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, PRNGKey, Variables, Video

GENERATOR = "generator"


@dataclass(frozen=True)
class Trivd(Gan):
  """The `Algorithm` of TrIVD-GAN-FP: one generator (with encoder), one net per discriminator."""

  config: TrivdConfig

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
    """No: the recurrent generator goes on for as long as it is asked to."""
    return False

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    """The Tc leading frames; see `Algorithm.conditioning_indices`.

    Raises:
      UserError: if no frame is left to predict.
    """
    tc = self.config.conditioning_frames
    if num_frames <= tc:
      raise UserError(f"num_frames={num_frames} leaves nothing to predict after the {tc} conditioning frames")
    return tuple(range(tc))

  @property
  def views(self) -> tuple[View, ...]:
    """What the discriminators look at."""
    return DECOMPOSITIONS[self.config.decomposition]

  @property
  def _dtype(self) -> jnp.dtype:
    return jnp.dtype(self.config.compute_dtype)

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
      dtype=self._dtype,
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
      dtype=self._dtype,
    )

  def networks(self) -> Mapping[str, nn.Module]:
    """The generator, and the discriminators by name."""
    return {GENERATOR: self.generator()} | {view.net: self.discriminator(view) for view in self.views}

  def frozen_networks(self) -> Mapping[str, FrozenNetwork]:
    """None."""
    return {}

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    """Fresh nets; see `Algorithm.init`.

    Raises:
      UserError: if the clips are too short for the conditioning frames and the drawn ones, or the frames cannot be
        halved as often as the networks do.
    """
    self._check_resolution(*batch["video"].shape[2:4])
    if batch["video"].shape[-1] != self.config.channels:
      channels = batch["video"].shape[-1]
      raise UserError(f"data.channels={channels} and algorithm.channels={self.config.channels} must be equal")
    num_frames = batch["video"].shape[1]
    tc = len(self.conditioning_indices(num_frames))
    available = num_frames - (tc if self.config.frames_from == "predicted" else 0)
    if any(view.on == "frames" for view in self.views) and self.config.frames_per_clip > available:
      raise UserError(
        f"algorithm.frames_per_clip={self.config.frames_per_clip} exceeds the {available} frames to draw from"
      )
    # The last block halves nothing.
    halvings = min(self.config.temporal_blocks, len(self.config.discriminator_multipliers) - 1)
    if self.config.downsample_time and num_frames < 2**halvings:
      raise UserError(
        f"data.num_frames={num_frames} cannot be halved {halvings} times; "
        "set algorithm.downsample_time=false or lower algorithm.temporal_blocks"
      )
    video, label = to_model_range(batch["video"]), self._label(batch)
    latent = jnp.zeros((video.shape[0], self.config.latent_features))
    keys = iter(jax.random.split(key, 1 + len(self.views)))
    arguments = {"num_frames": num_frames - tc, "train": False}
    nets = {GENERATOR: net_state(self.generator().init(next(keys), video[:, :tc], latent, label, **arguments))}
    for view in self.views:
      seen = self._apply_view(view, video, key)
      nets[view.net] = net_state(self.discriminator(view).init(next(keys), seen, label, train=False))
    return nets

  def phase_at(self, step: int) -> str:
    """Always 'main'."""
    del step
    return "main"

  def updates(self, phase: str) -> tuple[Update, ...]:
    """Discriminator updates, then one generator update (E.1)."""
    del phase
    c = self.config
    discriminators = tuple(view.net for view in self.views)
    return (
      Update(
        name="disc",
        trains=discriminators,
        refreshes=discriminators,
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
    """The sum over discriminators of the hinge loss (eq. 13); see `LossFn`."""
    del frozen, step
    fake_key, real_view_key, fake_view_key = jax.random.split(key, 3)
    label = self._label(batch)
    real = to_model_range(batch["video"])
    fake, _ = self._fake_video(nets[GENERATOR], batch, fake_key)
    total, refreshed, metrics = jnp.zeros(()), {}, {}
    for i, view in enumerate(self.views):
      seen = (
        self._apply_view(view, real, jax.random.fold_in(real_view_key, i)),
        self._apply_view(view, fake, jax.random.fold_in(fake_view_key, i)),
      )
      (on_real, on_fake), refreshed[view.net] = self._apply_discriminator(view, nets[view.net], seen, label)
      loss = losses.hinge_discriminator_loss(on_real, on_fake)
      total = total + loss
      metrics |= {
        f"{view.net}/loss": loss,
        f"{view.net}/real": jnp.mean(on_real),
        f"{view.net}/fake": jnp.mean(on_fake),
      }
    return total, LossOutput(nets=refreshed, metrics=metrics)

  def generator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """The sum over discriminators of -mean D(fake) (eq. 14), and the orthogonality penalty; see `LossFn`."""
    del frozen, step
    fake_key, view_key = jax.random.split(key)
    label = self._label(batch)
    fake, generator = self._fake_video(nets[GENERATOR], batch, fake_key)
    total, metrics = jnp.zeros(()), {}
    for i, view in enumerate(self.views):
      seen = self._apply_view(view, fake, jax.random.fold_in(view_key, i))
      (on_fake,), _ = self._apply_discriminator(view, nets[view.net], (seen,), label)
      loss = losses.hinge_generator_loss(on_fake)
      total = total + loss
      metrics[f"{view.net}/loss"] = loss
    orthogonality = penalties.orthogonality(nets[GENERATOR].params)
    metrics["orthogonality"] = orthogonality
    total = total + self.config.orthogonal_penalty * orthogonality
    return total, LossOutput(nets={GENERATOR: generator}, metrics=metrics)

  def sample(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Video:
    """Whole clips; see `Algorithm.sample`."""
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    return self.predict(nets, batch, latent, num_frames=options.num_frames)

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Whole clips for given latents; see `Algorithm.predict`."""
    return self._predict(nets, batch, latent, num_frames=num_frames)[0]

  def motion_levels(self) -> int:
    """One for each stage of the generator; see `PredictsMotion.motion_levels`."""
    check_moves(self.config.recurrent_unit)
    return len(self.config.generator_multipliers)

  def predict_motion(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, levels: Sequence[int]
  ) -> tuple[Video, jax.Array]:
    """Whole clips and their motion fields, from the kernels of the stages; see `PredictsMotion.predict_motion`."""
    video, left = self._predict(nets, batch, latent, num_frames=num_frames, mutable=(MOTION,))
    flows = [expected_flow(stage_kernels(left[MOTION], level)) for level in levels]
    return video, combine_flows(flows, size=video.shape[2:4])

  def batch_moments(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Nets:
    """The generator with this batch's own statistics, for clips of any length; see `Algorithm.batch_moments`."""
    # Dropped, not overwritten: statistics are per time step, and the sampled length may differ from the trained one.
    kept = {name: value for name, value in nets[GENERATOR].variables.items() if name != BATCH_STATS}
    net = nets[GENERATOR].replace(variables=kept)
    _, net = self._generate(net, batch, key, options=options, module=self.generator(bn_momentum=0.0))
    return {**nets, GENERATOR: net}

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """z, [batch_size, latent_features]; see `SampleOptions.truncation`."""
    return draw_latent(key, (batch_size, self.config.latent_features), truncation=truncation)

  def _predict(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, mutable: tuple[str, ...] = ()
  ) -> tuple[Video, Variables]:
    """Whole clips, and what the generator left in the collections that are `mutable`."""
    conditioning = to_model_range(batch["conditioning"])
    predicted, left = self.generator().apply(
      nets[GENERATOR].collections,
      conditioning,
      latent,
      self._label(batch),
      num_frames=num_frames - len(self.conditioning_indices(num_frames)),
      train=False,
      mutable=list(mutable),
    )
    return jnp.concatenate([conditioning, predicted], axis=1), left

  def _generate(
    self, net: NetState, batch: Batch, key: PRNGKey, *, options: SampleOptions, module: Generator
  ) -> tuple[Video, NetState]:
    """A forward pass in train mode: (predicted frames, the net with refreshed variables); batch as of `sample`."""
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    num_frames = options.num_frames - len(self.conditioning_indices(options.num_frames))
    return apply_mutable(
      functools.partial(module.apply, num_frames=num_frames, train=True),
      net,
      to_model_range(batch["conditioning"]),
      latent,
      self._label(batch),
    )

  def _fake_video(self, net: NetState, batch: Batch, key: PRNGKey) -> tuple[Video, NetState]:
    """Clips of real conditioning frames and generated ones, as long as the batch's, and the refreshed generator."""
    num_frames = batch["video"].shape[1]
    conditioning = batch["video"][:, : self.config.conditioning_frames]
    options = SampleOptions(num_frames=num_frames)
    known = {"conditioning": conditioning, "label": batch["label"]}
    predicted, net = self._generate(net, known, key, options=options, module=self.generator())
    return jnp.concatenate([to_model_range(conditioning), predicted], axis=1), net

  def _apply_view(self, view: View, video: Video, key: PRNGKey) -> Video:
    first = self.config.conditioning_frames if self.config.frames_from == "predicted" else 0
    return apply_view(
      view, video, key, first_frame=first, num_frames=self.config.frames_per_clip, factor=self.config.downsampling
    )

  def _apply_discriminator(
    self, view: View, net: NetState, videos: tuple[Video, ...], label: jax.Array
  ) -> tuple[tuple[jax.Array, ...], NetState]:
    """A discriminator's outputs on all `videos`; see `judge`."""
    apply = functools.partial(self.discriminator(view).apply, train=True)
    scores, net = apply_discriminator(apply, net, videos, label)
    head = HEADS[self.config.head]
    return tuple(head(score.unconditional, score.conditional) for score in scores), net

  def _check_resolution(self, height: int, width: int) -> None:
    c = self.config
    shrunk = max(c.downsampling if view.spatial != "full" else 1 for view in self.views)
    factors = {
      "generator_multipliers": 2 ** len(c.generator_multipliers),
      "discriminator_multipliers": shrunk * 2 ** (len(c.discriminator_multipliers) - 1),
    }
    for name, factor in factors.items():
      if height % factor or width % factor:
        raise UserError(
          f"data.resolution gives frames of {height}x{width}, but the {len(getattr(c, name))} entries of "
          f"algorithm.{name} need multiples of {factor}"
        )

  def _label(self, batch: Batch) -> jax.Array:
    return batch["label"] if self.config.num_classes > 1 else jnp.zeros_like(batch["label"])
