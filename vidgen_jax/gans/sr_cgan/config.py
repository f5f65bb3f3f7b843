"""Settings of SR-cGAN (SR-cGAN)."""

import math
from dataclasses import dataclass, field
from typing import Literal

from vidgen_jax.core.optimizers import AdamConfig
from vidgen_jax.errors import UserError


def _adam(learning_rate: float) -> AdamConfig:
  return AdamConfig(learning_rate=learning_rate, b1=0.5)


@dataclass(frozen=True, kw_only=True)
class SrCganConfig:
  """Settings of SR-cGAN; the defaults are those of the paper, or of the specification where the paper is silent.

  Reconstruction errors are sums of squared differences of images in [-1, 1], divergences in nats, as in eqs. 2 and 9.
  They far outweigh the adversarial losses, which are of the order of 1: with means over pixels in their place, G_I
  follows a discriminator that hardly learns (its rate is 2e-7), and reconstructs nothing.

  Attributes:
    channels: of the frames: 3, or 1 for grey.
    num_classes: 1; the model knows no classes.
    num_frames: N, length of the clips; must be that of the data.
    image_steps: train steps of the first phase, on single frames; 0 leaves it out.
    frames_per_clip: of each clip that the first phase sees.
    anchors: the least and the greatest number of anchors of a training clip; (0, 0) trains the base model, which makes
      clips from noise.
    conditioning_indices: times of the anchors when clips are sampled and scored, 0-based, ascending, negative ones from the
      end; () generates clips from z_T ~ N(0, I), as the base model always does.
    image_widths: channels of the convolutions of E_I and, backwards, G_I; each halves height and width.
    image_features: D, length of z_I.
    image_discriminator_widths: of D_I.
    image_discriminator_features: of its linear layer.
    temporal_features: Z, length of z_T.
    hidden_features: units of each GRU layer of E_T and G_T.
    temporal_discriminator_widths: of D_T; each halves height, width and, as far as it goes, time.
    image_prior_weight: of KL(q(z_I | x) || N(0, I)) in E_I's loss.
    encoder_reconstruction_weight: of the reconstruction error in E_I's loss (paper: 50).
    generator_reconstruction_weight: of the same in G_I's loss (paper: 0.5).
    clip_reconstruction_weight: of the reconstruction error of whole clips (eq. 9).
    clip_prior_weight: of KL(q(z_T | A, T) || N(0, I)) (eq. 9).
    anchor_weight: of the cross-entropy of time steps (eq. 10).
    content_weight: of the adversarial loss (eq. 11); 0 is the ablation without L_content.
    image_encoder_optimizer: Adam of E_I in the first phase.
    image_generator_optimizer: Adam of G_I in the first phase.
    image_discriminator_optimizer: Adam of D_I (paper: a rate of 2e-7).
    clip_optimizer: Adam of E_T and G_T, and of E_I and G_I in the second phase.
    fine_tuning_rate: by which E_I and G_I learn in the second phase, in units of `clip_optimizer`'s. At 1 G_I forgets
      colours and shapes while G_T's first latents are poor.
    temporal_discriminator_optimizer: Adam of D_T.
    compute_dtype: 'float32' or 'bfloat16'; parameters, statistics and losses stay float32.
  """

  channels: int = 3
  num_classes: int = 1
  num_frames: int = 16
  image_steps: int = 20_000
  frames_per_clip: int = 4
  anchors: tuple[int, int] = (1, 6)
  conditioning_indices: tuple[int, ...] = (0, 3, 6, 9, 12, 15)
  image_widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
  image_features: int = 128
  image_discriminator_widths: tuple[int, ...] = (16, 32, 64, 128, 256)
  image_discriminator_features: int = 512
  temporal_features: int = 256
  hidden_features: int = 256
  temporal_discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)
  image_prior_weight: float = 1.0
  encoder_reconstruction_weight: float = 50.0
  generator_reconstruction_weight: float = 0.5
  clip_reconstruction_weight: float = 1.0
  clip_prior_weight: float = 1.0
  anchor_weight: float = 1.0
  content_weight: float = 1.0
  image_encoder_optimizer: AdamConfig = field(default_factory=lambda: _adam(1e-4))
  image_generator_optimizer: AdamConfig = field(default_factory=lambda: _adam(1e-4))
  image_discriminator_optimizer: AdamConfig = field(default_factory=lambda: _adam(2e-7))
  clip_optimizer: AdamConfig = field(default_factory=lambda: _adam(1e-4))
  fine_tuning_rate: float = 0.1
  temporal_discriminator_optimizer: AdamConfig = field(default_factory=lambda: _adam(1e-4))
  compute_dtype: Literal["float32", "bfloat16"] = "float32"

  @property
  def is_base(self) -> bool:
    """Whether clips are made from noise."""
    return self.anchors == (0, 0)

  def __post_init__(self) -> None:
    """Raises UserError for values that do not fit together."""
    for name in ("image_widths", "image_discriminator_widths", "temporal_discriminator_widths"):
      if not getattr(self, name) or min(getattr(self, name)) < 1:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must hold positive numbers")
    for name in ("num_frames", "frames_per_clip", "image_features", "temporal_features", "hidden_features"):
      if getattr(self, name) < 1:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must be at least 1")
    if self.num_classes != 1:
      raise UserError(f"algorithm.num_classes={self.num_classes}: SR-cGAN knows no classes; leave it at 1")
    if self.image_steps < 0:
      raise UserError(f"algorithm.image_steps={self.image_steps} must be 0 or more")
    least, most = self.anchors
    if not self.is_base and not 1 <= least <= most <= self.num_frames:
      raise UserError(
        f"algorithm.anchors={self.anchors} must be a least and a greatest number within 1..{self.num_frames}, or (0, 0)"
      )
    times = [time + self.num_frames if time < 0 else time for time in self.conditioning_indices]
    if times != sorted(set(times)) or any(not 0 <= time < self.num_frames for time in times):
      raise UserError(
        f"algorithm.conditioning_indices={self.conditioning_indices} must be different times in ascending order, of "
        f"{self.num_frames} frames"
      )
    if self.is_base and times:
      raise UserError(
        f"algorithm.conditioning_indices={self.conditioning_indices}: the base model (anchors (0, 0)) is given none"
      )
    for name in (
      *("image_prior_weight", "encoder_reconstruction_weight", "generator_reconstruction_weight"),
      *("clip_reconstruction_weight", "clip_prior_weight", "anchor_weight", "content_weight"),
      "fine_tuning_rate",
    ):
      if not 0 <= getattr(self, name) < math.inf:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must be 0 or more")
