"""Inbetweening on BAIR robot pushing (Inbetweening: FVD 152 [144, 160], diversity 0.071, best-of-100 SSIM 0.836).

Data: `vidgen data build bair --source=FOLDER --split_rule=validation` of the official TFRecords: the paper tests on
sequences 0-255, validates on 256-2559 and trains on the rest. Windows are random in training and in
the middle for evaluation. `vidgen evaluate --follow --split=validation --best_metric=fvd --networks=i3d.safetensors`
beside the training keeps the checkpoint that the paper would choose. Not measured here.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_bair:{variant}"
  config.data.name = "bair"
  if variant == "paper":
    presets.inbetween_paper(config)
  elif variant == "cpu":
    presets.inbetween_cpu(config)
  elif variant == "smoke":
    presets.inbetween_smoke(config)
  else:
    raise presets.unknown_variant(variant)
  return config
