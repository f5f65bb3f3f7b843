"""SR-cGAN on Weizmann: people seen from the side, one action each (not in the paper; a small real data set).

Data: `vidgen data build video_folder --name=weizmann --source=FOLDER --encoding=png`, one folder per class; the model
ignores the labels. For strips in mirrored pairs add `--split_group=pair`. The settings are those of SR-cGAN for KTH.

Variants: paper; fixed_anchors, the largest number of anchors in every training clip; cpu, cpu_64 and smoke; base,
base_cpu and base_smoke for the base model, which generates clips from noise.
"""

import ml_collections

from vidgen_jax.gans.sr_cgan import presets
from vidgen_jax.runs.config import template

VARIANTS = tuple(presets.SIZES)


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("sr_cgan")
  config.name = f"sr_cgan_weizmann:{variant}"
  presets.configure(config, variant)
  presets.eight_frames(config, variant)
  config.data.name = "weizmann"
  config.data.random_flip = True
  return config
