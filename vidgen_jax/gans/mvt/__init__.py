"""MVT-GAN: sequence generator, frame generator, video discriminator; frames: `residual_discriminator`."""

from vidgen_jax.gans.mvt.frame_generator import FrameGenerator
from vidgen_jax.gans.mvt.generator import Generator
from vidgen_jax.gans.mvt.sequence_generator import SequenceGenerator
from vidgen_jax.gans.mvt.video_discriminator import VideoDiscriminator

__all__ = ["FrameGenerator", "Generator", "SequenceGenerator", "VideoDiscriminator"]
