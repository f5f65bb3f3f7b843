"""Settings of Inbetweening."""

from dataclasses import dataclass, field
from typing import Literal

from vidgen_jax.core.config import AdamConfig
from vidgen_jax.errors import UserError
from vidgen_jax.gans.settings import check_not_negative, check_positive


@dataclass(frozen=True, kw_only=True)
class InbetweenConfig:
  """Settings of Inbetweening; the defaults are the paper's.

  Attributes:
    channels: channels of the frames: 3, or 1 for greyscale.
    latent_features: D, length of the noise u.
    encoding_features: C, channels of encoded frames and of the latent video.
    encoder_widths: channels of the encoder's pairs of layers, each of which halves height and width.
    latent_blocks: blocks of the latent generator at each temporal resolution, coarsest first.
    fusion: whether blocks fuse the key frames stochastically; False is the paper's first baseline (4.2).
    naive: whether to train the second baseline, which has no latent generator: its video generator also doubles time,
      and `latent_blocks` and `fusion` have no effect.
    decoder_widths: channels of the video generator before each doubling of height and width.
    video_discriminator_widths: channels of the video discriminator's convolutions, each of which removes three frames.
    image_discriminator_widths: channels of the image discriminator's residual blocks.
    frames_per_clip: K, intermediate frames per clip that the image discriminator sees, drawn uniformly. Eqs. 8 and 9
      average over all intermediate frames; the paper draws one.
    gradient_penalty: weight of each discriminator's gradient penalty (`ops.losses.gradient_penalty`).
    generator_optimizer: Adam of the three generator nets.
    discriminator_optimizer: Adam of both discriminators.
    compute_dtype: 'float32' or 'bfloat16'; parameters, statistics and losses stay float32, and so do the discriminators
      in their own update, whose gradient penalty is differentiated twice (products in the platform's default
      precision).
    remat: whether the backward pass recomputes the latent generator's activations.
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
  generator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=5e-5, b1=0.5))
  discriminator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=5e-5, b1=0.5))
  compute_dtype: Literal["float32", "bfloat16"] = "float32"
  remat: bool = False

  def __post_init__(self) -> None:
    """Raises UserError if a value is invalid or values contradict each other."""
    if len(self.encoder_widths) != len(self.decoder_widths):
      raise UserError(
        f"algorithm.encoder_widths={self.encoder_widths} and decoder_widths={self.decoder_widths} must have the same "
        "number of entries: the decoder doubles height and width as often as the encoder halves them"
      )
    check_positive(self, "latent_features", "encoding_features", "encoder_widths", "latent_blocks", "decoder_widths")
    check_positive(self, "video_discriminator_widths", "image_discriminator_widths")
    check_not_negative(self, "gradient_penalty")
