"""Inbetweening on UCF-101 without classes (paper: FVD 424 [411, 438], diversity 0.131, best-of-100 SSIM 0.686).

Data: `vidgen data build ucf101 --source=FOLDER --size=64 --encoding=png --split_rule=1_validation`: 95 % of trainlist01
for training, the other 5 % for validation, testlist01 for testing. `vidgen evaluate --all_checkpoints --best_metric=fvd
--networks=i3d.safetensors` keeps the checkpoint with the lowest FVD on the validation split, which the paper evaluates.
Not trained at paper size.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.inbetween.presets import SIZES
from vidgen_jax.gans.presets import apply_form
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_ucf101:{variant}"
  config.data.name = "ucf101"
  apply_form(config, variant, SIZES)
  return config
