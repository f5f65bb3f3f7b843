"""Settings of SR-cGAN."""

from dataclasses import dataclass, field
from typing import Literal

from vidgen_jax.core.config import AdamConfig
from vidgen_jax.errors import UserError
from vidgen_jax.gans.settings import check_not_negative, check_positive


@dataclass(frozen=True, kw_only=True)
class SrCganConfig:
  """Settings of SR-cGAN; the defaults are the paper's, or ours where the paper gives none.

  Weights and pixels: reconstruction errors are sums of squared differences, of images in [-1, 1], over the values
  (pixels x channels) of a frame (eqs. 2 and 3) or of a clip (eq. 9). All other losses do not depend on the number of
  pixels: divergences are sums over latents, in nats; the anchor loss is a sum over N steps; adversarial losses are
  means of order 1. So that one set of weights serves every size, errors are multiplied by

    3,072 / (height x width x channels) for frames, 49,152 / (N x height x width x channels) for clips,

  which is 1 for 16 frames of 32x32 in three channels, where the weights were found, and 1/4 at 64x64. For plain sums,
  divide the reconstruction weights by these factors. The factor is the paper's variance of p(x | z), which it does not
  give. With means over pixels instead of sums, G_I follows a discriminator that hardly learns (its learning rate is
  2e-7) and reconstructs nothing.

  Attributes:
    channels: channels of the frames: 3, or 1 for greyscale.
    num_classes: 1, the only valid value: the model has no classes.
    num_frames: N, length of the clips; must equal `data.num_frames`.
    image_steps: train steps of the first phase, on single frames; 0 skips it. Colours come last: in a first phase that
      is too short, E_I and G_I learn places only, and the second phase hardly adds to that.
    frames_per_clip: frames of each clip that the first phase sees.
    anchors: smallest and largest number of anchors of a training clip; (0, 0) trains the base model, which generates
      clips from noise.
    conditioning_indices: times of the anchors for sampling and scoring, 0-based and ascending; negative times count
      from the end. () generates clips from z_T ~ N(0, I), as the base model always does.
    image_widths: channels of the convolutions of E_I and, in reverse order, G_I; each halves height and width.
    image_features: D, length of z_I.
    image_discriminator_widths: channels of D_I's convolutions.
    image_discriminator_features: units of D_I's linear layer.
    temporal_features: Z, length of z_T.
    hidden_features: units of each GRU layer of E_T and G_T.
    temporal_discriminator_widths: channels of D_T's convolutions; each halves height, width and, while it exceeds one
      frame, time.
    image_prior_weight: weight of KL(q(z_I | x) || N(0, I)) in E_I's loss.
    encoder_reconstruction_weight: weight of the reconstruction error in E_I's loss (paper: 50).
    generator_reconstruction_weight: weight of the reconstruction error in G_I's loss (paper: 0.5).
    clip_reconstruction_weight: weight of the reconstruction error of whole clips (eq. 9).
    clip_prior_weight: weight of KL(q(z_T | A, T) || N(0, I)) (eq. 9).
    anchor_weight: weight of the cross-entropy of time steps (eq. 10).
    content_weight: weight of the adversarial loss (eq. 11); with a smaller one, blurred clips score as well as sharp
      ones. 0 is the ablation without L_content.
    image_encoder_optimizer: Adam of E_I in the first phase.
    image_generator_optimizer: Adam of G_I in the first phase.
    image_discriminator_optimizer: Adam of D_I (paper: learning rate 2e-7).
    clip_optimizer: Adam of E_T and G_T, and of E_I and G_I in the second phase.
    fine_tuning_rate: learning rate of E_I and G_I in the second phase, as a multiple of `clip_optimizer`'s; the default
      gives the published 1e-4. At 1 G_I forgets colours and shapes while G_T's first latents are poor.
    temporal_discriminator_optimizer: Adam of D_T.
    compute_dtype: 'float32' or 'bfloat16'; parameters, statistics and losses stay float32.
  """

  channels: int = 3
  num_classes: int = 1
  num_frames: int = 16
  image_steps: int = 50_000
  frames_per_clip: int = 4
  anchors: tuple[int, int] = (1, 6)
  conditioning_indices: tuple[int, ...] = (0, 3, 6, 9, 12, 15)
  image_widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
  image_features: int = 32
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
  content_weight: float = 10.0
  image_encoder_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=1e-4, b1=0.5))
  image_generator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=1e-4, b1=0.5))
  image_discriminator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=2e-7, b1=0.5))
  clip_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=1e-3, b1=0.5))
  fine_tuning_rate: float = 0.1
  temporal_discriminator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=1e-4, b1=0.5))
  compute_dtype: Literal["float32", "bfloat16"] = "float32"

  @property
  def is_base(self) -> bool:
    """Whether the model is the base model, which generates clips from noise."""
    return self.anchors == (0, 0)

  def __post_init__(self) -> None:
    """Raises UserError if a value is invalid or values contradict each other."""
    check_positive(self, "image_widths", "image_discriminator_widths", "temporal_discriminator_widths")
    check_positive(self, "num_frames", "frames_per_clip", "image_features", "temporal_features", "hidden_features")
    if self.num_classes != 1:
      raise UserError(f"algorithm.num_classes={self.num_classes} must be 1: SR-cGAN has no classes")
    bounds = (1, *self.anchors, self.num_frames)
    if not self.is_base and (len(self.anchors) != 2 or list(bounds) != sorted(bounds)):
      raise UserError(
        f"algorithm.anchors={self.anchors} must be the smallest and the largest number of anchors, within "
        f"1..{self.num_frames}, or (0, 0) for the base model"
      )
    times = [time + self.num_frames if time < 0 else time for time in self.conditioning_indices]
    if times != sorted(set(times)) or any(not 0 <= time < self.num_frames for time in times):
      raise UserError(
        f"algorithm.conditioning_indices={self.conditioning_indices} must be distinct times in ascending order within "
        f"clips of {self.num_frames} frames"
      )
    if self.is_base and times:
      raise UserError(
        f"algorithm.conditioning_indices={self.conditioning_indices} must be () for the base model, anchors=(0, 0)"
      )
    weights = (name for name in vars(self) if name.endswith("_weight"))
    check_not_negative(self, "image_steps", *weights, "fine_tuning_rate")
