"""Settings of TrIVD-GAN-FP (TrIVD-GAN-FP)."""

from dataclasses import dataclass, field
from typing import Literal

from vidgen_jax.core.optimizers import AdamConfig
from vidgen_jax.errors import UserError
from vidgen_jax.gans.views import DECOMPOSITIONS
from vidgen_jax.nn.recurrent import RECURRENT_UNITS
from vidgen_jax.ops import losses

HEADS = {"mixed_projection": losses.mixed_projection, "projection": losses.projection}
"""Discriminator heads by the name that configs use."""


@dataclass(frozen=True, kw_only=True)
class TrivdConfig:
  """Settings of TrIVD-GAN-FP; the defaults are the paper's (Kinetics-600, channel multiplier 48).

  Attributes:
    conditioning_frames: Tc, leading frames that are given.
    channels: of the frames: 3, or 1 for grey.
    num_classes: 1 for unconditional training (a constant dummy class, appendix A).
    decomposition: a name in `DECOMPOSITIONS`.
    frames_per_clip: K, frames drawn for frame discriminators (the paper: 8, and 1 for a MoCoGAN-like model).
    frames_from: what they are drawn from: the 'predicted' frames, or the whole 'video'.
    downsampling: s, of downsampled and cropped views.
    head: 'mixed_projection' (eq. 15) or 'projection'.
    recurrent_unit: a name in `RECURRENT_UNITS`.
    generator_channels: ch of the generator.
    generator_multipliers: widths of its stages over ch, coarsest first.
    generator_blocks: residual blocks in a stage.
    discriminator_channels: ch of the discriminators and of the encoder.
    discriminator_multipliers: widths of their blocks over ch, finest first.
    temporal_blocks: blocks with 3x3x3 convolutions in discriminators of clips.
    downsample_time: halves time too in those blocks.
    latent_features: of z.
    class_features: of the class vector beside z.
    spectral_norm: on all kernels.
    orthogonal_penalty: weight of the generator's orthogonality penalty (E.2).
    discriminator_steps: discriminator updates per generator update (E.1).
    generator_optimizer: Adam of the generator.
    discriminator_optimizer: Adam of the discriminators.
    compute_dtype: 'float32' or 'bfloat16'; parameters, statistics and losses stay float32.
    remat: recomputes activations in the backward pass.
    unroll: unrolls the recurrences (for CPUs).
  """

  conditioning_frames: int = 5
  channels: int = 3
  num_classes: int = 1
  decomposition: str = "stronger"
  frames_per_clip: int = 8
  frames_from: Literal["predicted", "video"] = "predicted"
  downsampling: int = 2
  head: str = "mixed_projection"
  recurrent_unit: str = "tsru_p"
  generator_channels: int = 48
  generator_multipliers: tuple[int, ...] = (8, 4, 2)
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
  unroll: bool = False

  def __post_init__(self) -> None:
    """Raises UserError for values that do not fit together."""
    for name, choices in {"decomposition": DECOMPOSITIONS, "recurrent_unit": RECURRENT_UNITS, "head": HEADS}.items():
      if getattr(self, name) not in choices:
        raise UserError(f"algorithm.{name}={getattr(self, name)!r} is not one of {', '.join(choices)}")
    for name in ("frames_per_clip", "downsampling"):
      if getattr(self, name) < 1:
        raise UserError(f"algorithm.{name}={getattr(self, name)} must be at least 1")
    if len(self.discriminator_multipliers) < len(self.generator_multipliers):
      raise UserError("algorithm.discriminator_multipliers must have at least as many entries as generator_multipliers")
