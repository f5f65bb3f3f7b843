"""TrIVD-GAN-FP and DVD-GAN-FP (paper 004): encoder and generator; discriminators are `residual_discriminator`."""

from vidgen_jax.models.trivd.encoder import Encoder
from vidgen_jax.models.trivd.generator import Generator
from vidgen_jax.models.trivd.motion import check_moves, moving_units, stage_kernels

__all__ = ["Encoder", "Generator", "check_moves", "moving_units", "stage_kernels"]
