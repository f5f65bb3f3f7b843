"""TrIVD-GAN-FP on Weizmann: few clips of people in front of a static background.

Data: `vidgen data build video_folder --name=weizmann --source=FOLDER --split_group=pair --encoding=png`, which keeps
mirrored pairs of strips in one split. Not a data set of the paper: `paper` is its architecture at ch 48 with batch size
32, for one accelerator; not trained. `cpu` has 64x64 pixels and three stages; see docs/results.md for measured results.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.trivd import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_weizmann:{variant}"
  config.data.name = "weizmann"
  config.data.random_flip = True
  presets.configure(config, variant, channels=48)
  if variant == "paper":
    config.update_from_flattened_dict(presets.ONE_ACCELERATOR)
    config.train.batch_size = 32
  elif variant == "cpu":
    config.data.resolution = 64
    config.algorithm.generator_multipliers = config.algorithm.upsampled_multipliers = (2, 1, 1)
    config.algorithm.discriminator_multipliers = (1, 2, 4, 4)
  return config
