"""Settings of MVT-GAN."""

import math
from dataclasses import dataclass, field
from typing import Literal

from vidgen_jax.core.config import AdamConfig
from vidgen_jax.errors import UserError
from vidgen_jax.gans.settings import FROM_DATA, check_not_negative, check_positive, class_count


@dataclass(frozen=True, kw_only=True)
class MvtConfig:
  """Settings of MVT-GAN; the defaults are those of the variant MVT at 128x128 on UCF-101.

  The paper's variants: MVT-MC has `motion_constraint` 1; MVT-VAR has `latent_scales` (0.5, 1, 2); MVT-TSA has the same
  scales and `shifted_blocks` 2. Where the paper is silent, the defaults follow the authors' code,
  github.com/amunozgarza/tsb-gan.

  Attributes:
    channels: channels of the frames: 3, or 1 for greyscale.
    num_classes: number of classes; 1 for unconditional training (a constant dummy class). In an experiment file also
      'data', the number of classes of the data set, which is the default there.
    latent_sizes: lengths of the latent's parts z_A, z_B and z_C.
    latent_scales: standard deviations of these parts.
    sampling_means: means of these parts in sampling; in training they are 0. The paper mentions none; the authors'
      sampling code draws with (4, 2, 0).
    class_features: length of the class embedding.
    hidden_features: units of the sequence generator's GRU.
    sequence_spectral_norm: whether the sequence generator's linear maps have a spectral norm.
    embedding_spectral_norm: whether the generator's class embedding has a spectral norm.
    conditional_bias: whether the linear maps of conditional batch normalisation have biases.
    generator_channels: a, channel multiplier of the frame generator.
    generator_multipliers: widths of the frame generator as multiples of a: after the first linear map, then after each
      block, which doubles height and width. The frames' resolution follows from the data.
    generator_attention: 0-based index of the frame generator's block that is followed by self-attention within each
      frame: at 128x128 block 2 reaches 32x32, as in the authors' code; -1 for no attention.
    shifted_blocks: number of leading blocks of the frame generator that begin with a temporal shift.
    shift_divisor: one of this many parts of the channels is shifted forward in time, a second one backward.
    image_discriminator_channels: a, channel multiplier of the image discriminator.
    image_discriminator_multipliers: widths of its blocks as multiples of a; all but the last halve height and width.
    image_discriminator_attention: as `generator_attention`; at 128x128 block 1 reaches 32x32.
    frames_per_clip: N, frames per clip that the image discriminator sees.
    video_discriminator_widths: channels of the video discriminator's convolutions, which halve time, height and width.
    video_discriminator_batch_norm: whether all of these except the first have batch normalisation, and none has a bias.
    motion_constraint: alpha, weight of 1 - L_M in the generator's loss (eq. 6); 0 for none.
    flow_weights: .safetensors file of PWC-Net, written by `vidgen weights import`, for the motion constraint; the clips
      must be RGB. '' for the classical estimator, which needs no weights.
    discriminator_steps: discriminator updates per generator update.
    generator_optimizer: Adam of the generator.
    discriminator_optimizer: Adam of both discriminators.
    compute_dtype: 'float32' or 'bfloat16'; parameters, statistics and losses stay float32.
    remat: whether the backward pass recomputes the frame generator's activations.
  """

  channels: int = 3
  num_classes: int = class_count(template=FROM_DATA)
  latent_sizes: tuple[int, ...] = (20, 20, 80)
  latent_scales: tuple[float, ...] = (1.0, 1.0, 1.0)
  sampling_means: tuple[float, ...] = (0.0, 0.0, 0.0)
  class_features: int = 120
  hidden_features: int = 2048
  sequence_spectral_norm: bool = True
  embedding_spectral_norm: bool = True
  conditional_bias: bool = True
  generator_channels: int = 96
  generator_multipliers: tuple[int, ...] = (16, 16, 8, 4, 2, 1)
  generator_attention: int = 2
  shifted_blocks: int = 0
  shift_divisor: int = 3
  image_discriminator_channels: int = 96
  image_discriminator_multipliers: tuple[int, ...] = (1, 2, 4, 8, 16, 16)
  image_discriminator_attention: int = 1
  frames_per_clip: int = 8
  video_discriminator_widths: tuple[int, ...] = (96, 192, 384, 768)
  video_discriminator_batch_norm: bool = True
  motion_constraint: float = 0.0
  flow_weights: str = ""
  discriminator_steps: int = 2
  generator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=5e-5, b2=0.9))
  discriminator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=2e-4, b2=0.9))
  compute_dtype: Literal["float32", "bfloat16"] = "float32"
  remat: bool = False

  def __post_init__(self) -> None:
    """Raises UserError if a value is invalid or values contradict each other."""
    for name in ("latent_scales", "sampling_means"):
      if not self.latent_sizes or len(self.latent_sizes) != len(getattr(self, name)):
        raise UserError(
          f"algorithm.latent_sizes={self.latent_sizes} and {name}={getattr(self, name)} must have the same number of "
          "entries, at least one"
        )
    if not all(map(math.isfinite, self.sampling_means)):
      raise UserError(f"algorithm.sampling_means={self.sampling_means} must be finite")
    if self.shift_divisor < 2:
      raise UserError(f"algorithm.shift_divisor={self.shift_divisor} must be at least 2: two parts are shifted")
    check_positive(self, "latent_sizes", "latent_scales", "generator_multipliers", "image_discriminator_multipliers")
    check_positive(self, "video_discriminator_widths", "class_features", "hidden_features")
    check_positive(self, "frames_per_clip", "discriminator_steps", "num_classes")
    check_not_negative(self, "motion_constraint")
    blocks = len(self.generator_multipliers) - 1
    limits = {
      "generator_attention": (-1, blocks - 1),
      "shifted_blocks": (0, blocks),
      "image_discriminator_attention": (-1, len(self.image_discriminator_multipliers) - 1),
    }
    for name, (least, most) in limits.items():
      if not least <= getattr(self, name) <= most:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must be in {least}..{most}")
    if self.flow_weights and not self.motion_constraint:
      raise UserError(f"algorithm.flow_weights={self.flow_weights} has no effect because algorithm.motion_constraint=0")
    if self.flow_weights and self.channels != 3:
      raise UserError(f"algorithm.flow_weights: PWC-Net needs RGB, but algorithm.channels={self.channels}")
