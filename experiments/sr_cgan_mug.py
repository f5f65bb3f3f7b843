"""SR-cGAN on the MUG facial expressions (paper: IV.A.3).

Data: `vidgen data build mug --source=FOLDER --size=64 --clip_frames=16`: the takes of six expressions, 80 percent for
training and 20 for testing; every take is divided into sub-sequences of 16 frames, 8,147 in all. Batch size, steps and
averages of the weights are ours. Not trained at paper size.

The published content distances of faces are of OpenFace features. OpenFace is not part of this package, so they cannot
be reproduced: `vidgen compare --content_network` computes the distance from features of another network, whose values
must not be compared with them.

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
  config.name = f"sr_cgan_mug:{variant}"
  presets.configure(config, variant)
  config.data.name = "mug"
  if "cpu" in variant:
    config.data.frame_stride = 1
  return config
