"""The six networks of SR-cGAN by name (SR-cGAN, III), and what clips they take."""

import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.gans.sr_cgan import (
  ImageDiscriminator,
  ImageEncoder,
  ImageGenerator,
  TemporalDiscriminator,
  TemporalEncoder,
  TemporalGenerator,
)
from vidgen_jax.gans.sr_cgan.config import SrCganConfig

IMAGE_ENCODER = "image_encoder"
IMAGE_GENERATOR = "image_generator"
IMAGE_DISCRIMINATOR = "image_disc"
TEMPORAL_ENCODER = "temporal_encoder"
TEMPORAL_GENERATOR = "temporal_generator"
TEMPORAL_DISCRIMINATOR = "temporal_disc"


def build_modules(config: SrCganConfig, size: tuple[int, int], *, bn_momentum: float) -> dict[str, nn.Module]:
  """The modules by name; the base model has no temporal encoder.

  Args:
    config: of the widths.
    size: (height, width) of the frames.
    bn_momentum: see `BatchNorm`.
  """
  c, dtype = config, {"dtype": jnp.dtype(config.compute_dtype)}
  image = {"bn_momentum": bn_momentum, **dtype}
  modules = {
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
  """Checks that the networks fit clips of this shape.

  Raises:
    UserError: if not, naming the setting.
  """
  c = config
  if channels != c.channels:
    raise UserError(f"data.channels={channels} and algorithm.channels={c.channels} must be equal")
  if num_frames != c.num_frames:
    raise UserError(f"data.num_frames={num_frames} and algorithm.num_frames={c.num_frames} must be equal")
  if c.frames_per_clip > num_frames:
    raise UserError(f"algorithm.frames_per_clip={c.frames_per_clip} exceeds data.num_frames={num_frames}")
  for name in ("image_widths", "image_discriminator_widths", "temporal_discriminator_widths"):
    factor = 2 ** len(getattr(c, name))
    if height % factor or width % factor:
      raise UserError(
        f"data.resolution gives frames of {height}x{width}, but the {len(getattr(c, name))} entries of "
        f"algorithm.{name} need multiples of {factor}"
      )
