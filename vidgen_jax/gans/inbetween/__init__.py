"""Video inbetweening with direct 3D convolutions: encoder, latent and video generators, discriminators."""

from vidgen_jax.gans.inbetween.discriminators import ImageDiscriminator, VideoDiscriminator
from vidgen_jax.gans.inbetween.encoder import Encoder
from vidgen_jax.gans.inbetween.latent_generator import LatentGenerator, StackedEncodings
from vidgen_jax.gans.inbetween.video_generator import VideoGenerator

__all__ = [
  "Encoder",
  "ImageDiscriminator",
  "LatentGenerator",
  "StackedEncodings",
  "VideoDiscriminator",
  "VideoGenerator",
]
