"""TrIVD-GAN-FP on Weizmann: real people in front of a still background, few clips.

Data: `vidgen data build video_folder --name=weizmann --source=FOLDER --split_group=pair` (strips come in mirrored
pairs, which must not be torn apart). Not a data set of TrIVD-GAN-FP: `paper` is its architecture at ch 48 with batch 32,
for one accelerator; not measured. `cpu` works at 64x64 with three stages; see README for what was measured.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_weizmann:{variant}"
  config.data.name = "weizmann"
  config.data.random_flip = True
  if variant == "paper":
    presets.trivd_paper(config, channels=48)
    config.algorithm.remat = False
    config.train.batch_size = 32
    config.train.num_steps = 50_000
    config.ema.decay = 0.999
    config.ema.start_step = 1_000
  elif variant == "cpu":
    presets.trivd_cpu(config)
    config.data.resolution = 64
    config.algorithm.generator_multipliers = (2, 1, 1)
    config.algorithm.discriminator_multipliers = (1, 2, 4, 4)
  elif variant == "smoke":
    presets.trivd_smoke(config)
  else:
    raise presets.unknown_variant(variant)
  return config
