"""Inbetweening on KTH, greyscale (paper: FVD 153 [148, 158], diversity 0.013, best-of-100 SSIM 0.733).

Data: `vidgen data build kth --source=FOLDER --size=64 --encoding=png --clip_frames=16`. As in the paper, persons 1-15
are for training, 16 for validation and 17-25 for testing, and every video is divided into sub-sequences of 16 frames.
`vidgen evaluate --all_checkpoints --best_metric=fvd --networks=i3d.safetensors` keeps the checkpoint with the lowest
FVD on the validation split, which the paper evaluates. As in the paper, networks that need RGB receive the grey channel
three times. Not trained at paper size.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.inbetween.presets import SIZES
from vidgen_jax.gans.presets import apply_form
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_kth:{variant}"
  config.data.name = "kth"
  config.data.channels = 1
  config.algorithm.channels = 1
  apply_form(config, variant, SIZES)
  return config
