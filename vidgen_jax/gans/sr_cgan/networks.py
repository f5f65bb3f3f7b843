"""The six networks of SR-cGAN by name (SR-cGAN, III), and the clip shapes that they accept."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.gans.checks import check_channels, check_resolution
from vidgen_jax.gans.sr_cgan.config import SrCganConfig
from vidgen_jax.gans.sr_cgan.image_networks import ImageDiscriminator, ImageEncoder, ImageGenerator
from vidgen_jax.gans.sr_cgan.temporal_discriminator import TemporalDiscriminator
from vidgen_jax.gans.sr_cgan.temporal_networks import TemporalEncoder, TemporalGenerator

IMAGE_ENCODER = "image_encoder"
IMAGE_GENERATOR = "image_generator"
IMAGE_DISCRIMINATOR = "image_disc"
TEMPORAL_ENCODER = "temporal_encoder"
TEMPORAL_GENERATOR = "temporal_generator"
TEMPORAL_DISCRIMINATOR = "temporal_disc"


def build_modules(config: SrCganConfig, size: tuple[int, int], *, bn_momentum: float) -> dict[str, nn.Module]:
  """The modules by name; the base model has no temporal encoder.

  Args:
    config: settings of SR-cGAN.
    size: (height, width) of the frames.
    bn_momentum: see `BatchNorm`.
  """
  c = config
  dtype: dict[str, Any] = {"dtype": jnp.dtype(config.compute_dtype)}
  image: dict[str, Any] = {"bn_momentum": bn_momentum, **dtype}
  modules: dict[str, nn.Module] = {
    IMAGE_ENCODER: ImageEncoder(c.image_widths, c.image_features, **image),
    IMAGE_GENERATOR: ImageGenerator(size, c.image_widths, c.channels, **image),
    IMAGE_DISCRIMINATOR: ImageDiscriminator(
      c.image_discriminator_widths, hidden_features=c.image_discriminator_features, **dtype
    ),
    TEMPORAL_ENCODER: TemporalEncoder(c.num_frames, c.temporal_features, c.hidden_features, **dtype),
    TEMPORAL_GENERATOR: TemporalGenerator(c.num_frames, c.image_features, c.hidden_features, **dtype),
    TEMPORAL_DISCRIMINATOR: TemporalDiscriminator(c.temporal_discriminator_widths, **dtype),
  }
  if c.is_base:
    del modules[TEMPORAL_ENCODER]
  return modules


def check_shape(config: SrCganConfig, num_frames: int, height: int, width: int, channels: int) -> None:
  """Checks that the networks accept clips of this shape.

  Raises:
    UserError: if they do not; the message names the setting.
  """
  check_channels(config, channels)
  if num_frames != config.num_frames:
    raise UserError(f"data.num_frames={num_frames} and algorithm.num_frames={config.num_frames} must be equal")
  if config.frames_per_clip > num_frames:
    raise UserError(f"algorithm.frames_per_clip={config.frames_per_clip} exceeds data.num_frames={num_frames}")
  names = ("image_widths", "image_discriminator_widths", "temporal_discriminator_widths")
  check_resolution(config, height, width, {name: 2 ** len(getattr(config, name)) for name in names})
