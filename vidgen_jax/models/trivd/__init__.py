"""TrIVD-GAN-FP and DVD-GAN-FP (paper 004): encoder, generator, discriminators."""

from vidgen_jax.models.trivd.discriminator import Discriminator, ProjectionScores
from vidgen_jax.models.trivd.encoder import Encoder
from vidgen_jax.models.trivd.generator import Generator
from vidgen_jax.models.trivd.motion import check_moves, moving_units, stage_kernels

__all__ = ["Discriminator", "Encoder", "Generator", "ProjectionScores", "check_moves", "moving_units", "stage_kernels"]
