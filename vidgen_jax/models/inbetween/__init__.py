"""Video inbetweening with direct 3D convolutions (paper 000): encoder, latent and video generators, discriminators."""

from vidgen_jax.models.inbetween.discriminators import ImageDiscriminator, VideoDiscriminator
from vidgen_jax.models.inbetween.encoder import Encoder
from vidgen_jax.models.inbetween.latent_generator import LatentGenerator, StackedEncodings
from vidgen_jax.models.inbetween.video_generator import VideoGenerator

__all__ = [
  "Encoder",
  "ImageDiscriminator",
  "LatentGenerator",
  "StackedEncodings",
  "VideoDiscriminator",
  "VideoGenerator",
]
