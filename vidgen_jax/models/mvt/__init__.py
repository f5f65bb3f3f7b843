"""MVT-GAN (paper 003): sequence generator, frame generator, video discriminator; frames: `residual_discriminator`."""

from vidgen_jax.models.mvt.frame_generator import FrameGenerator
from vidgen_jax.models.mvt.generator import Generator
from vidgen_jax.models.mvt.sequence_generator import SequenceGenerator
from vidgen_jax.models.mvt.video_discriminator import VideoDiscriminator

__all__ = ["FrameGenerator", "Generator", "SequenceGenerator", "VideoDiscriminator"]
