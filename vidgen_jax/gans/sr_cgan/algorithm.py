"""SR-cGAN, "Static2Dynamic": whole clips from frames at any times (SR-cGAN)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.core.algorithm import FrozenNetwork
from vidgen_jax.core.optimizers import AdamConfig, make_learning_rate, make_optimizer, scale_networks
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.core.update import LossFn, LossOutput, Update, num_microbatches
from vidgen_jax.errors import UserError
from vidgen_jax.gans.apply import apply_mutable, net_state
from vidgen_jax.gans.base import Gan, SampleOptions
from vidgen_jax.gans.sr_cgan import place_anchors
from vidgen_jax.gans.sr_cgan.config import SrCganConfig
from vidgen_jax.gans.sr_cgan.networks import (
  IMAGE_DISCRIMINATOR,
  IMAGE_ENCODER,
  IMAGE_GENERATOR,
  TEMPORAL_DISCRIMINATOR,
  TEMPORAL_ENCODER,
  TEMPORAL_GENERATOR,
  build_modules,
  check_shape,
)
from vidgen_jax.ops import anchors as anchor_ops
from vidgen_jax.ops import losses, resampling
from vidgen_jax.ops.gaussian import Gaussian, kl_to_standard_normal
from vidgen_jax.ops.latents import draw_latent
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.types import Batch, PRNGKey, Video

IMAGES, CLIPS = "images", "clips"


@dataclass(frozen=True)
class SrCgan(Gan):
  """The `Algorithm` of SR-cGAN: a VAE-GAN of frames, and one of clips over its latents."""

  config: SrCganConfig

  @property
  def phases(self) -> tuple[str, ...]:
    """Frames by themselves, then clips (III.D)."""
    return (IMAGES, CLIPS)

  @property
  def microbatches(self) -> int:
    """One for each update of the phase that has more of them."""
    return max(num_microbatches(self.updates(phase)) for phase in self.phases)

  @property
  def ema_nets(self) -> tuple[str, ...]:
    """All but the discriminators."""
    temporal = (TEMPORAL_GENERATOR,) if self.config.is_base else (TEMPORAL_ENCODER, TEMPORAL_GENERATOR)
    return (IMAGE_ENCODER, IMAGE_GENERATOR, *temporal)

  @property
  def fixed_length(self) -> bool:
    """Yes: times are one of N."""
    return True

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    """The anchors' times; see `Algorithm.conditioning_indices`.

    Raises:
      UserError: for clips of another length than the trained one.
    """
    if num_frames != self.config.num_frames:
      raise UserError(f"num_frames={num_frames}: this model makes clips of {self.config.num_frames} frames, no others")
    return tuple(time % num_frames for time in self.config.conditioning_indices)

  def _modules(self, size: tuple[int, int], *, bn_momentum: float = 0.9) -> dict[str, nn.Module]:
    """The modules for frames of a (height, width)."""
    return build_modules(self.config, size, bn_momentum=bn_momentum)

  def networks(self) -> Mapping[str, nn.Module]:
    """All networks by name, as for frames of 64x64."""
    return self._modules((64, 64))

  def frozen_networks(self) -> Mapping[str, FrozenNetwork]:
    """None."""
    return {}

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    """Fresh nets; see `Algorithm.init`.

    Raises:
      UserError: if the networks do not fit clips of this length and size.
    """
    check_shape(self.config, *batch["video"].shape[1:])
    video = to_model_range(batch["video"])
    count, num_frames = video.shape[:2]
    times = jnp.broadcast_to(jnp.arange(num_frames)[None], (count, num_frames))
    known, latents = jnp.ones_like(times, bool), jnp.zeros((count, num_frames, self.config.image_features))
    anchors = None if self.config.is_base else place_anchors(video, times, known, num_frames=num_frames)
    inputs: dict[str, tuple[Any, ...]] = {
      IMAGE_ENCODER: (video,),
      IMAGE_GENERATOR: (latents,),
      IMAGE_DISCRIMINATOR: (video,),
      TEMPORAL_ENCODER: (latents, times, known),
      TEMPORAL_GENERATOR: (jnp.zeros((count, self.config.temporal_features)),),
      TEMPORAL_DISCRIMINATOR: (video, anchors),
    }
    modules = self._modules(video.shape[2:4])
    keys = dict(zip(modules, jax.random.split(key, len(modules)), strict=True))
    normalised = {IMAGE_ENCODER: {"train": False}, IMAGE_GENERATOR: {"train": False}}
    return {
      name: net_state(module.init(keys[name], *inputs[name], **normalised.get(name, {})))
      for name, module in modules.items()
    }

  def phase_at(self, step: int) -> str:
    """'images' for the first `image_steps` steps, then 'clips'."""
    return IMAGES if step < self.config.image_steps else CLIPS

  def updates(self, phase: str) -> tuple[Update, ...]:
    """Of 'images': E_I, G_I and D_I, each by its own losses; of 'clips': D_T, then all that makes clips.

    Raises:
      ValueError: for another phase.
    """
    c = self.config
    if phase == IMAGES:
      return (
        _update("image_encoder", (IMAGE_ENCODER,), self.image_encoder_loss, c.image_encoder_optimizer),
        _update("image_generator", (IMAGE_GENERATOR,), self.image_generator_loss, c.image_generator_optimizer),
        _update("image_disc", (IMAGE_DISCRIMINATOR,), self.image_discriminator_loss, c.image_discriminator_optimizer),
      )
    if phase != CLIPS:
      raise ValueError(f"unknown {phase=}; there are {', '.join(self.phases)}")
    # The base model makes no use of an encoder of frames.
    makers = tuple(name for name in self.ema_nets if not (c.is_base and name == IMAGE_ENCODER))
    apply_discriminator = (TEMPORAL_DISCRIMINATOR,)
    fine_tuning = dict.fromkeys((IMAGE_ENCODER, IMAGE_GENERATOR), c.fine_tuning_rate)
    return (
      _update("clip_disc", apply_discriminator, self.clip_discriminator_loss, c.temporal_discriminator_optimizer),
      _update("clip_gen", makers, self.clip_generator_loss, c.clip_optimizer, fine_tuning),
    )

  # First phase: frames.

  def image_encoder_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """L_prior + 50 L_recon, by which E_I is trained (eq. 2); see `LossFn`."""
    del frozen, step
    frame_key, latent_key = jax.random.split(key)
    frames, modules = self._frames(batch, frame_key)
    posterior, encoder = apply_mutable(modules[IMAGE_ENCODER].apply, nets[IMAGE_ENCODER], frames, train=True)
    decode, generator = modules[IMAGE_GENERATOR].apply, nets[IMAGE_GENERATOR]
    decoded, _ = apply_mutable(decode, generator, posterior.sample(latent_key), train=True)
    prior, reconstruction = _divergence(posterior), _frame_error(decoded, frames)
    c = self.config
    loss = c.image_prior_weight * prior + c.encoder_reconstruction_weight * reconstruction
    metrics = {"prior": prior, "reconstruction": reconstruction}
    return loss, LossOutput(nets={IMAGE_ENCODER: encoder}, metrics=metrics)

  def image_generator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """L_IGAN + 0.5 L_recon, by which G_I is trained (eq. 3, non-saturating); see `LossFn`."""
    del frozen, step
    frame_key, latent_key = jax.random.split(key)
    frames, modules = self._frames(batch, frame_key)
    (decoded, drawn), generator = self._decoded_and_drawn(nets, modules, frames, latent_key)
    apply_discriminator = modules[IMAGE_DISCRIMINATOR].apply
    on_decoded, on_drawn = (apply_discriminator(nets[IMAGE_DISCRIMINATOR].collections, x) for x in (decoded, drawn))
    adversarial = losses.nonsaturating_generator_loss(on_decoded) + losses.nonsaturating_generator_loss(on_drawn)
    reconstruction = _frame_error(decoded, frames)
    loss = adversarial + self.config.generator_reconstruction_weight * reconstruction
    metrics = {"adversarial": adversarial, "reconstruction": reconstruction}
    return loss, LossOutput(nets={IMAGE_GENERATOR: generator}, metrics=metrics)

  def image_discriminator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """-L_IGAN (eq. 3): frames against decoded and against drawn ones; see `LossFn`."""
    del frozen, step
    frame_key, latent_key = jax.random.split(key)
    frames, modules = self._frames(batch, frame_key)
    fakes, _ = self._decoded_and_drawn(nets, modules, frames, latent_key)
    apply_discriminator = modules[IMAGE_DISCRIMINATOR].apply
    on_real, on_decoded, on_drawn = (
      apply_discriminator(nets[IMAGE_DISCRIMINATOR].collections, x) for x in (frames, *fakes)
    )
    loss = losses.log_discriminator_loss(on_real, on_decoded) + jnp.mean(jax.nn.softplus(on_drawn))
    metrics = {"real": jnp.mean(on_real), "decoded": jnp.mean(on_decoded), "drawn": jnp.mean(on_drawn)}
    return loss, LossOutput(nets={}, metrics=metrics)

  def _frames(self, batch: Batch, key: PRNGKey) -> tuple[Video, dict[str, nn.Module]]:
    """(frames drawn from each clip, [B, K, H, W, C]; the modules)."""
    video = to_model_range(batch["video"])
    return resampling.random_frames(key, video, self.config.frames_per_clip), self._modules(video.shape[2:4])

  def _decoded_and_drawn(
    self, nets: Nets, modules: Mapping[str, nn.Module], frames: Video, key: PRNGKey
  ) -> tuple[tuple[Video, Video], NetState]:
    """((G_I(E_I(x)), G_I(z)), G_I refreshed by the former).

    Two passes: encoded latents are spread otherwise than drawn ones, and batch statistics of both together would fit
    neither, nor what E_I is trained through.
    """
    encoded_key, drawn_key = jax.random.split(key)
    posterior, _ = apply_mutable(modules[IMAGE_ENCODER].apply, nets[IMAGE_ENCODER], frames, train=True)
    encoded, decode = posterior.sample(encoded_key), modules[IMAGE_GENERATOR].apply
    decoded, generator = apply_mutable(decode, nets[IMAGE_GENERATOR], encoded, train=True)
    drawn, _ = apply_mutable(decode, nets[IMAGE_GENERATOR], jax.random.normal(drawn_key, encoded.shape), train=True)
    return (decoded, drawn), generator

  # Second phase: clips.

  def clip_discriminator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """-L_content (eq. 11), or -L_TGAN of the base model (eq. 8); see `LossFn`."""
    del frozen, step
    video = to_model_range(batch["video"])
    made = self._make(nets, video, key)
    apply_discriminator = self._modules(video.shape[2:4])[TEMPORAL_DISCRIMINATOR].apply
    on_real, on_fake = (
      apply_discriminator(nets[TEMPORAL_DISCRIMINATOR].collections, clips, made.placed) for clips in (video, made.video)
    )
    loss = losses.log_discriminator_loss(on_real, on_fake)
    return loss, LossOutput(nets={}, metrics={"real": jnp.mean(on_real), "fake": jnp.mean(on_fake)})

  def clip_generator_loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    """L_TVAE + L_anchor + L_content (eqs. 9 to 11), each with its weight; see `LossFn`.

    Of the base model L_TGAN alone (eq. 8).
    """
    del frozen, step
    video = to_model_range(batch["video"])
    made, c = self._make(nets, video, key), self.config
    apply_discriminator = self._modules(video.shape[2:4])[TEMPORAL_DISCRIMINATOR].apply
    logits = apply_discriminator(nets[TEMPORAL_DISCRIMINATOR].collections, made.video, made.placed)
    content = losses.nonsaturating_generator_loss(logits)
    if made.posterior is None:
      return content, LossOutput(nets=made.refreshed, metrics={"content": content})
    reconstruction, prior = _clip_error(made.video, video), _divergence(made.posterior)
    anchor = time_cross_entropy(made.time_logits)
    loss = c.clip_reconstruction_weight * reconstruction + c.clip_prior_weight * prior
    loss = loss + c.anchor_weight * anchor + c.content_weight * content
    metrics = {"reconstruction": reconstruction, "prior": prior, "anchor": anchor, "content": content}
    return loss, LossOutput(nets=made.refreshed, metrics=metrics)

  def _make(self, nets: Nets, video: Video, key: PRNGKey) -> "_Made":
    """Clips made of anchors that are drawn from real ones, or from noise."""
    count, c = video.shape[0], self.config
    modules = self._modules(video.shape[2:4])
    anchor_key, image_key, latent_key = jax.random.split(key, 3)
    if c.is_base:
      latent, posterior, placed = self.latent(latent_key, count), None, None
      refreshed: Nets = {}
    else:
      times, known = anchor_ops.draw_anchors(anchor_key, count, num_frames=c.num_frames, counts=c.anchors)
      frames = anchor_ops.take_times(video, times)
      seen, encoder = apply_mutable(modules[IMAGE_ENCODER].apply, nets[IMAGE_ENCODER], frames, train=True)
      encode = modules[TEMPORAL_ENCODER].apply
      posterior = encode(nets[TEMPORAL_ENCODER].collections, seen.sample(image_key), times, known)
      latent = posterior.sample(latent_key)
      placed = place_anchors(frames, times, known, num_frames=c.num_frames)
      refreshed = {IMAGE_ENCODER: encoder}
    latents, time_logits = modules[TEMPORAL_GENERATOR].apply(nets[TEMPORAL_GENERATOR].collections, latent)
    decode = modules[IMAGE_GENERATOR].apply
    clips, refreshed[IMAGE_GENERATOR] = apply_mutable(decode, nets[IMAGE_GENERATOR], latents, train=True)
    return _Made(video=clips, time_logits=time_logits, posterior=posterior, placed=placed, refreshed=refreshed)

  # Sampling.

  def sample(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Video:
    """Whole clips; see `Algorithm.sample` and `predict`."""
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    return self.predict(nets, batch, latent, num_frames=options.num_frames)

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """Standard deviations by which z_T differs from mu_T, [batch_size, Z]; truncation 0 is the deterministic model."""
    return draw_latent(key, (batch_size, self.config.temporal_features), truncation=truncation)

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Whole clips for given latents, the anchors in their places; see `Algorithm.predict`.

    Args:
      nets: see `Algorithm.predict`.
      batch: as there, and on request `times` int32 [B, G], the time of each conditioning frame, where clips differ in them;
        negative ones are padding. Without, the times are `conditioning_indices`.
      latent: see `latent`.
      num_frames: see there.
    """
    video = self.infer(nets, batch, latent, num_frames=num_frames)
    if not self._has_anchors(batch):
      return video
    times, known = self._times(batch, num_frames)
    return anchor_ops.put_times(video, to_model_range(batch["conditioning"]), times, known)

  def infer(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """As `predict`, with what the model makes of the anchors in their places: how well it matches them.

    Args:
      nets: see `predict`.
      batch: see `predict`.
      latent: see `predict`.
      num_frames: see `predict`.
    """
    self.conditioning_indices(num_frames)
    modules = self._modules(batch["conditioning"].shape[2:4])

    def run(name: str, *inputs: Any, **options: Any) -> Any:
      return modules[name].apply(nets[name].collections, *inputs, **options)

    if self._has_anchors(batch):
      times, known = self._times(batch, num_frames)
      seen = run(IMAGE_ENCODER, to_model_range(batch["conditioning"]), train=False)
      latent = run(TEMPORAL_ENCODER, seen.mean, times, known).at(latent)
    latents, _ = run(TEMPORAL_GENERATOR, latent)
    return run(IMAGE_GENERATOR, latents, train=False)

  def interpolate(self, nets: Nets, batch: Batch, *, num_frames: int) -> Video:
    """Decoded lines between the anchors' z_I (IV.C.3); see `InfersClips.interpolate`.

    G_I is normalised by the statistics of this very batch: those in `nets` are of what G_T makes, which would spoil it.
    """
    modules = self._modules(batch["conditioning"].shape[2:4])
    encode, decode = modules[IMAGE_ENCODER].apply, modules[IMAGE_GENERATOR].apply
    seen = encode(nets[IMAGE_ENCODER].collections, to_model_range(batch["conditioning"]), train=False)
    times, known = self._times(batch, num_frames)
    latents = anchor_ops.interpolate_times(seen.mean, times, known, num_frames=num_frames)
    video, _ = apply_mutable(decode, nets[IMAGE_GENERATOR], latents, train=True)
    return video

  def batch_moments(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Nets:
    """E_I and G_I with this batch's own statistics; see `Algorithm.batch_moments`."""
    modules = self._modules(batch["conditioning"].shape[2:4], bn_momentum=0.0)
    latent, refreshed = self.latent(key, batch["label"].shape[0], truncation=options.truncation), {}
    if self._has_anchors(batch):
      times, known = self._times(batch, options.num_frames)
      frames = to_model_range(batch["conditioning"])
      encode = modules[IMAGE_ENCODER].apply
      seen, refreshed[IMAGE_ENCODER] = apply_mutable(encode, nets[IMAGE_ENCODER], frames, train=True)
      encode = modules[TEMPORAL_ENCODER].apply
      latent = encode(nets[TEMPORAL_ENCODER].collections, seen.mean, times, known).at(latent)
    latents, _ = modules[TEMPORAL_GENERATOR].apply(nets[TEMPORAL_GENERATOR].collections, latent)
    decode = modules[IMAGE_GENERATOR].apply
    _, refreshed[IMAGE_GENERATOR] = apply_mutable(decode, nets[IMAGE_GENERATOR], latents, train=True)
    return {**nets, **refreshed}

  def _has_anchors(self, batch: Batch) -> bool:
    """Whether any frame is given; without, z_T ~ N(0, I)."""
    return not self.config.is_base and batch["conditioning"].shape[1] > 0

  def _times(self, batch: Batch, num_frames: int) -> tuple[jax.Array, jax.Array]:
    """(times of the conditioning frames, int [B, G]; which of them are no padding, bool [B, G])."""
    if "times" in batch:
      return jnp.maximum(batch["times"], 0), batch["times"] >= 0
    times = jnp.array(self.conditioning_indices(num_frames), jnp.int32)
    times = jnp.broadcast_to(times[None], (batch["conditioning"].shape[0], len(times)))
    return times, jnp.ones_like(times, bool)


@dataclass(frozen=True, kw_only=True)
class _Made:
  """Clips in training, and what came up on the way to them."""

  video: Video
  time_logits: jax.Array
  posterior: Gaussian | None
  placed: Video | None
  refreshed: Nets


def time_cross_entropy(logits: jax.Array) -> jax.Array:
  """L_anchor, the sum over steps of -log p(step i is i), the mean over clips (eq. 10).

  Args:
    logits: of the N times at each of N steps, float32 [B, N, N].

  Returns:
    float32 scalar; N log N for a guess.
  """
  right = jnp.diagonal(jax.nn.log_softmax(logits, axis=-1), axis1=1, axis2=2)
  return -jnp.mean(jnp.sum(right, axis=-1))


def _update(
  name: str, trains: tuple[str, ...], loss_fn: LossFn, optimizer: AdamConfig, factors: Mapping[str, float] | None = None
) -> Update:
  return Update(
    name=name,
    trains=trains,
    refreshes=trains,
    loss_fn=loss_fn,
    optimizer=scale_networks(make_optimizer(optimizer), factors or {}),
    learning_rate=make_learning_rate(optimizer),
  )


def _divergence(posterior: Gaussian) -> jax.Array:
  """KL to N(0, I) in nats, the mean over all that is encoded."""
  return jnp.mean(kl_to_standard_normal(posterior))


def _frame_error(frames: Video, truth: Video) -> jax.Array:
  """Sum of squared differences of a frame, the mean over frames."""
  return jnp.mean(jnp.sum(jnp.square(frames.astype(jnp.float32) - truth), axis=(2, 3, 4)))


def _clip_error(video: Video, truth: Video) -> jax.Array:
  """Sum of squared differences of a clip, the mean over clips."""
  return _frame_error(video, truth) * video.shape[1]
