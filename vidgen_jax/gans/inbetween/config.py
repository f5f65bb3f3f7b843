"""Settings of the inbetweening GAN (Inbetweening)."""

import math
from dataclasses import dataclass, field
from typing import Literal

from vidgen_jax.core.optimizers import AdamConfig
from vidgen_jax.errors import UserError


def _adam() -> AdamConfig:
  return AdamConfig(learning_rate=5e-5, b1=0.5)


@dataclass(frozen=True, kw_only=True)
class InbetweenConfig:
  """Settings of the inbetweening GAN; the defaults are the paper's.

  Attributes:
    channels: of the frames: 3, or 1 for grey.
    latent_features: D, of the noise u.
    encoding_features: C, channels of encoded frames and of the latent video.
    encoder_widths: channels of the encoder's pairs of layers, each of which halves height and width.
    latent_blocks: blocks of the latent generator in each temporal resolution, coarsest first.
    fusion: stochastic fusion with the key frames; False is the paper's first baseline (4.2).
    naive: no latent generator at all: the second baseline, whose video generator doubles time as well. `latent_blocks`
      and `fusion` then have no meaning.
    decoder_widths: channels of the video generator before each doubling of height and width.
    video_discriminator_widths: of the video discriminator's convolutions, each of which takes three frames off.
    image_discriminator_widths: channels of the image discriminator's residuals.
    frames_per_clip: K, intermediate frames of a clip that the image discriminator sees, drawn uniformly. Eqs. 8 and 9
      average over all of them, of which the paper draws one.
    gradient_penalty: weight of the gradient penalty of each discriminator (`ops.penalties.gradient_penalty`).
    generator_optimizer: Adam of the three generator nets.
    discriminator_optimizer: Adam of both discriminators.
    compute_dtype: 'float32' or 'bfloat16'; parameters, statistics and losses stay float32, and so do the
      discriminators in their own update, whose gradient penalty is differentiated twice (products in the platform's
      default precision).
    remat: recomputes activations of the latent generator in the backward pass.
    unroll: writes loops over blocks out (for CPUs).
  """

  channels: int = 3
  latent_features: int = 128
  encoding_features: int = 64
  encoder_widths: tuple[int, ...] = (64, 128, 256)
  latent_blocks: tuple[int, ...] = (8, 8, 8)
  fusion: bool = True
  naive: bool = False
  decoder_widths: tuple[int, ...] = (256, 128, 64)
  video_discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)
  image_discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)
  frames_per_clip: int = 1
  gradient_penalty: float = 0.1
  generator_optimizer: AdamConfig = field(default_factory=_adam)
  discriminator_optimizer: AdamConfig = field(default_factory=_adam)
  compute_dtype: Literal["float32", "bfloat16"] = "float32"
  remat: bool = False
  unroll: bool = False

  def __post_init__(self) -> None:
    """Raises UserError for values that do not fit together."""
    if len(self.encoder_widths) != len(self.decoder_widths):
      raise UserError(
        f"algorithm.encoder_widths={self.encoder_widths} and decoder_widths={self.decoder_widths} must have equally "
        "many entries: the decoder doubles the size as often as the encoder halves it"
      )
    for name in (
      *("encoder_widths", "latent_blocks", "decoder_widths"),
      *("video_discriminator_widths", "image_discriminator_widths"),
    ):
      if not getattr(self, name) or min(getattr(self, name)) < 1:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must hold positive numbers")
    for name in ("latent_features", "encoding_features"):
      if getattr(self, name) < 1:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must be at least 1")
    if not 0 <= self.gradient_penalty < math.inf:
      raise UserError(f"algorithm.gradient_penalty={self.gradient_penalty} must be 0 or more")
