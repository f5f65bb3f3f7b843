"""Inbetweening on BAIR robot pushing (paper: FVD 152 [144, 160], diversity 0.071, best-of-100 SSIM 0.836).

Data: `vidgen data build bair --source=FOLDER --split_rule=validation --encoding=png` from the official TFRecords. As in
the paper, sequences 0-255 are for testing, 256-2559 for validation and the rest for training. Windows are random in
training and central in evaluation. `vidgen evaluate --all_checkpoints --best_metric=fvd --networks=i3d.safetensors`
keeps the checkpoint with the lowest FVD on the validation split, which the paper evaluates. Not trained at paper size.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.inbetween.presets import SIZES
from vidgen_jax.gans.presets import apply_form
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_bair:{variant}"
  config.data.name = "bair"
  apply_form(config, variant, SIZES)
  return config
