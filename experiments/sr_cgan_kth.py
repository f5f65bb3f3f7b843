"""SR-cGAN on KTH's hand-waving clips, greyscale (paper: IV.A.2, figures 6 and 9).

Data: `vidgen data build kth --split_rule=handwaving --name=kth_handwaving --source=FOLDER --size=64 --clip_frames=16`:
persons 1-20 for training, 21-25 for testing (80 and 20 percent); every video is divided into sub-sequences of 16
frames, 1,855 in the paper. The base model generates all 16 frames; clips from anchors have eight frames, up to three of
them anchors, as in figure 9. Frames are resized to squares (IV.A.2), not cropped. Batch size, steps and averages of the
weights are ours. Not trained at paper size.

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
  config.name = f"sr_cgan_kth:{variant}"
  presets.configure(config, variant)
  presets.eight_frames(config, variant)
  config.data.name = "kth_handwaving"
  config.data.channels = 1
  config.data.resize = "squash"
  config.algorithm.channels = 1
  return config
