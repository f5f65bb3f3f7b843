"""The smallest TrIVD-GAN that has every kind of layer. A plugin of the tests that need a cheap train step."""

import jax
import pytest

from experiments import trivd_shape_motion
from vidgen_jax.runs.config import from_config_dict
from vidgen_jax.runs.experiment import Experiment, build_experiment

TINY = {
  "data.resolution": 8,
  "data.num_frames": 3,
  "train.batch_size": 8,
  "algorithm.conditioning_frames": 1,
  "algorithm.frames_per_clip": 2,
  "algorithm.generator_channels": 2,
  "algorithm.generator_multipliers": (1,),
  "algorithm.upsampled_multipliers": (1,),
  "algorithm.discriminator_channels": 5,
  "algorithm.discriminator_multipliers": (1,),
  "algorithm.temporal_blocks": 1,
}
"""Changes of the smoke variant: one stage, one block, frames of 8x8, 1 conditioning and 2 predicted frames."""


@pytest.fixture
def tiny():
  """A function that builds the tiny experiment with changes."""

  def make(**changes) -> Experiment:
    config = trivd_shape_motion.get_config("smoke")
    config.update_from_flattened_dict(TINY | {name.replace("__", "."): value for name, value in changes.items()})
    return build_experiment(from_config_dict(config), devices=jax.devices()[:1])

  return make
