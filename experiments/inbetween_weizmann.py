"""Inbetweening on Weizmann: few clips of people in front of a static background.

Data: `vidgen data build video_folder --name=weizmann --source=FOLDER --split_group=pair --encoding=png`, which keeps
mirrored pairs of strips in one split. Not a data set of the paper: `paper` has its architecture and a schedule of
100,000 steps; not trained. `cpu`: see docs/results.md for measured results.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.inbetween.presets import SHORT_SIZES
from vidgen_jax.gans.presets import apply_form
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_weizmann:{variant}"
  config.data.name = "weizmann"
  config.data.random_flip = True
  apply_form(config, variant, SHORT_SIZES)
  return config
