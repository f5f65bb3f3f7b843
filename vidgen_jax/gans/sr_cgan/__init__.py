"""SR-cGAN: encoder, generator and discriminator of images; the same of sequences of their latents."""

from vidgen_jax.gans.sr_cgan.image_networks import ImageDiscriminator, ImageEncoder, ImageGenerator
from vidgen_jax.gans.sr_cgan.temporal_discriminator import TemporalDiscriminator, place_anchors
from vidgen_jax.gans.sr_cgan.temporal_networks import TemporalEncoder, TemporalGenerator

__all__ = [
  "ImageDiscriminator",
  "ImageEncoder",
  "ImageGenerator",
  "TemporalDiscriminator",
  "TemporalEncoder",
  "TemporalGenerator",
  "place_anchors",
]
