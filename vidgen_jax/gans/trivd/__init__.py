"""TrIVD-GAN-FP and DVD-GAN-FP: encoder and generator; discriminators are `residual_discriminator`."""

from vidgen_jax.gans.trivd.encoder import Encoder
from vidgen_jax.gans.trivd.generator import Generator
from vidgen_jax.gans.trivd.motion import check_moves, moving_units, stage_kernels

__all__ = ["Encoder", "Generator", "check_moves", "moving_units", "stage_kernels"]
