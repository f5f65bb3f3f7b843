"""Settings of MVT-GAN (MVT-GAN)."""

import math
from dataclasses import dataclass, field
from typing import Literal

from vidgen_jax.core.optimizers import AdamConfig
from vidgen_jax.errors import UserError


def _generator_adam() -> AdamConfig:
  return AdamConfig(learning_rate=5e-5, b2=0.9)


def _discriminator_adam() -> AdamConfig:
  return AdamConfig(learning_rate=2e-4, b2=0.9)


@dataclass(frozen=True, kw_only=True)
class MvtConfig:
  """Settings of MVT-GAN; the defaults are those of the variant MVT at 128x128 on UCF-101.

  The paper's variants: MVT-MC has `motion_constraint` 1; MVT-VAR `latent_scales` (0.5, 1, 2); MVT-TSA that and
  `shifted_blocks` 2.

  Attributes:
    channels: of the frames: 3, or 1 for grey.
    num_classes: 1 for unconditional training (a constant dummy class).
    latent_sizes: lengths of the latent's parts z_A, z_B and z_C.
    latent_scales: their standard deviations.
    class_features: length of the class embedding.
    hidden_features: units of the sequence generator's GRU.
    generator_channels: a, of the frame generator.
    generator_multipliers: its widths over a: behind the first linear map, then behind each block, which doubles height
      and width. The frames' resolution follows from the data.
    generator_attention: the number of its block, counted from 0, behind which frames attend to themselves: at 128x128
      block 2 reaches 32x32, as in the authors' code; -1 for no attention.
    shifted_blocks: how many of its leading blocks begin with a temporal shift.
    image_discriminator_channels: a of the image discriminator.
    image_discriminator_multipliers: widths of its blocks over a; all but the last halve height and width.
    image_discriminator_attention: as `generator_attention`; block 1 of 128x128 reaches 32x32.
    frames_per_clip: N, frames of a clip that the image discriminator sees.
    video_discriminator_widths: of the video discriminator's convolutions, each of which halves time, height and width.
    motion_constraint: alpha, weight of 1 - L_M in the generator's loss (eq. 6); 0 for none.
    flow_weights: .safetensors file of PWC-Net, made by `vidgen weights import`, whose flows are constrained; '' for the
      classical estimator, which needs none. The clips must be RGB then.
    discriminator_steps: discriminator updates per generator update.
    generator_optimizer: Adam of the generator.
    discriminator_optimizer: Adam of both discriminators.
    compute_dtype: 'float32' or 'bfloat16'; parameters, statistics and losses stay float32.
    remat: recomputes the frame generator's activations in the backward pass.
  """

  channels: int = 3
  num_classes: int = 1
  latent_sizes: tuple[int, ...] = (20, 20, 80)
  latent_scales: tuple[float, ...] = (1.0, 1.0, 1.0)
  class_features: int = 120
  hidden_features: int = 2048
  generator_channels: int = 96
  generator_multipliers: tuple[int, ...] = (16, 16, 8, 4, 2, 1)
  generator_attention: int = 2
  shifted_blocks: int = 0
  image_discriminator_channels: int = 96
  image_discriminator_multipliers: tuple[int, ...] = (1, 2, 4, 8, 16, 16)
  image_discriminator_attention: int = 1
  frames_per_clip: int = 8
  video_discriminator_widths: tuple[int, ...] = (96, 192, 384, 768)
  motion_constraint: float = 0.0
  flow_weights: str = ""
  discriminator_steps: int = 2
  generator_optimizer: AdamConfig = field(default_factory=_generator_adam)
  discriminator_optimizer: AdamConfig = field(default_factory=_discriminator_adam)
  compute_dtype: Literal["float32", "bfloat16"] = "float32"
  remat: bool = False

  def __post_init__(self) -> None:
    """Raises UserError for values that do not fit together."""
    if not self.latent_sizes or len(self.latent_sizes) != len(self.latent_scales):
      raise UserError(
        f"algorithm.latent_sizes={self.latent_sizes} and latent_scales={self.latent_scales} must have equally many "
        "entries, at least one"
      )
    for name in (
      *("latent_sizes", "latent_scales", "generator_multipliers"),
      *("image_discriminator_multipliers", "video_discriminator_widths"),
    ):
      if not getattr(self, name) or not 0 < min(getattr(self, name)) < math.inf:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must hold positive numbers")
    for name in ("class_features", "hidden_features", "frames_per_clip", "discriminator_steps"):
      if getattr(self, name) < 1:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must be at least 1")
    blocks = len(self.generator_multipliers) - 1
    limits = {
      "generator_attention": (-1, blocks - 1),
      "shifted_blocks": (0, blocks),
      "image_discriminator_attention": (-1, len(self.image_discriminator_multipliers) - 1),
    }
    for name, (least, most) in limits.items():
      if not least <= getattr(self, name) <= most:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must lie in {least}..{most}")
    if self.flow_weights and not self.motion_constraint:
      raise UserError(f"algorithm.flow_weights={self.flow_weights} is of no use: algorithm.motion_constraint is 0")
    if self.flow_weights and self.channels != 3:
      raise UserError(f"algorithm.flow_weights: PWC-Net needs RGB, but algorithm.channels={self.channels}")
    if not 0 <= self.motion_constraint < math.inf:
      raise UserError(f"algorithm.motion_constraint={self.motion_constraint} must be 0 or more")
