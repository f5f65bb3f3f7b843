"""SR-cGAN on Weizmann: people seen from the side, one action each (not in SR-cGAN; a small real set of people).

Data: `vidgen data build video_folder --name=weizmann --source=FOLDER`, a folder for every class, whose labels the model
does not use; strips in mirrored pairs need `--split_group=pair`. The settings are those of SR-cGAN for KTH: eight
frames, three anchors.

Variants: paper, cpu, smoke; base, base_cpu and base_smoke for the base model, which makes clips from noise.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template

VARIANTS = presets.SR_CGAN_VARIANTS


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("sr_cgan")
  config.name = f"sr_cgan_weizmann:{variant}"
  presets.sr_cgan(config, variant)
  presets.sr_cgan_eight_frames(config, variant)
  config.data.name = "weizmann"
  config.data.random_flip = True
  return config
