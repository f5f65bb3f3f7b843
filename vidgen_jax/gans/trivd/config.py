"""Settings of TrIVD-GAN-FP, and its discriminator decompositions (Table 1, figure 1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vidgen_jax.core.config import AdamConfig
from vidgen_jax.errors import UserError
from vidgen_jax.gans.settings import View, check_positive, class_count

FRAMES = View(net="frame_disc", on="frames", spatial="full")
DOWNSAMPLED_FRAMES = View(net="downsampled_frame_disc", on="frames", spatial="downsampled")
VIDEO = View(net="video_disc", on="video", spatial="full")
DOWNSAMPLED_VIDEO = View(net="downsampled_video_disc", on="video", spatial="downsampled")
CROPPED_VIDEO = View(net="cropped_video_disc", on="video", spatial="cropped")

DECOMPOSITIONS: Mapping[str, tuple[View, ...]] = {
  "clip": (VIDEO,),
  "downsampled": (DOWNSAMPLED_VIDEO,),
  "cropped": (CROPPED_VIDEO,),
  "cropped_downsampled": (CROPPED_VIDEO, DOWNSAMPLED_VIDEO),
  "mocogan_like": (FRAMES, VIDEO),
  "dvd_gan_fp": (FRAMES, DOWNSAMPLED_VIDEO),
  "faster": (DOWNSAMPLED_FRAMES, CROPPED_VIDEO),
  "stronger": (DOWNSAMPLED_FRAMES, CROPPED_VIDEO, DOWNSAMPLED_VIDEO),
}
"""Views of the discriminators by name of the decomposition, in the order of Table 1."""

HEADS = ("mixed_projection", "projection")
"""Discriminator heads, functions in `ops.losses`."""


@dataclass(frozen=True, kw_only=True)
class TrivdConfig:
  """Settings of TrIVD-GAN-FP; the defaults are the paper's (Kinetics-600, channel multiplier 48).

  Attributes:
    conditioning_frames: Tc, number of leading frames that are conditioning frames.
    channels: channels of the frames: 3, or 1 for greyscale.
    num_classes: number of classes; 1 for unconditional training (a constant dummy class, appendix A). In an experiment
      file also 'data', the number of classes of the data set.
    decomposition: discriminators, a name in `DECOMPOSITIONS`.
    frames_per_clip: K, frames drawn for frame discriminators (paper: 8, and 1 for a MoCoGAN-like model).
    frames_from: source of these frames: the 'predicted' frames, or the whole 'video'.
    downsampling: s, divisor of height and width in downsampled and cropped views.
    head: 'mixed_projection' (eq. 15) or 'projection'.
    recurrent_unit: unit of the generator, a name in `RECURRENT_UNITS`.
    generator_channels: ch, channel multiplier of the generator.
    generator_multipliers: widths of the generator's stages as multiples of ch, coarsest first.
    upsampled_multipliers: widths after the upsampling block of each stage, as multiples of ch.
    generator_blocks: residual blocks per stage.
    discriminator_channels: ch, channel multiplier of the discriminators and of the encoder.
    discriminator_multipliers: widths of their blocks as multiples of ch, finest first.
    temporal_blocks: number of blocks with 3x3x3 convolutions in video discriminators.
    downsample_time: whether these blocks also halve time.
    latent_features: length of z.
    class_features: length of the class vector that is appended to z.
    spectral_norm: whether kernels are spectrally normalised.
    orthogonal_penalty: weight of the generator's orthogonality penalty (E.2).
    discriminator_steps: discriminator updates per generator update (E.1).
    generator_optimizer: Adam of the generator.
    discriminator_optimizer: Adam of the discriminators.
    compute_dtype: 'float32' or 'bfloat16'; parameters, statistics and losses stay float32.
    remat: whether the backward pass recomputes activations.
  """

  conditioning_frames: int = 5
  channels: int = 3
  num_classes: int = class_count()
  decomposition: str = "stronger"
  frames_per_clip: int = 8
  frames_from: Literal["predicted", "video"] = "predicted"
  downsampling: int = 2
  head: str = "mixed_projection"
  recurrent_unit: str = "tsru_p"
  generator_channels: int = 48
  generator_multipliers: tuple[int, ...] = (8, 8, 4)
  upsampled_multipliers: tuple[int, ...] = (8, 4, 2)
  generator_blocks: int = 2
  discriminator_channels: int = 48
  discriminator_multipliers: tuple[int, ...] = (2, 4, 8, 16, 16)
  temporal_blocks: int = 2
  downsample_time: bool = False
  latent_features: int = 128
  class_features: int = 128
  spectral_norm: bool = True
  orthogonal_penalty: float = 1e-4
  discriminator_steps: int = 2
  generator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=1e-4))
  discriminator_optimizer: AdamConfig = field(default_factory=lambda: AdamConfig(learning_rate=5e-4))
  compute_dtype: Literal["float32", "bfloat16"] = "float32"
  remat: bool = False

  def __post_init__(self) -> None:
    """Raises UserError if a value is invalid or values contradict each other."""
    # Imports JAX, which a config's template does not need.
    from vidgen_jax.nn.recurrent import RECURRENT_UNITS

    for name, choices in {"decomposition": DECOMPOSITIONS, "recurrent_unit": RECURRENT_UNITS, "head": HEADS}.items():
      if getattr(self, name) not in choices:
        raise UserError(f"algorithm.{name}={getattr(self, name)!r} must be one of {', '.join(choices)}")
    check_positive(self, "frames_per_clip", "downsampling", "num_classes")
    if (stages := len(self.generator_multipliers)) != len(self.upsampled_multipliers):
      raise UserError(
        f"algorithm.upsampled_multipliers={self.upsampled_multipliers} must have one entry for each of the {stages} in "
        "algorithm.generator_multipliers"
      )
    if len(self.discriminator_multipliers) < len(self.generator_multipliers):
      raise UserError("algorithm.discriminator_multipliers must have at least as many entries as generator_multipliers")
