"""Inbetweening on Shape Motion: a circle or a square on a curved path over a black background.

Data: `vidgen data build shape_motion`. Scores include the object's position, because PSNR alone says little: both a
black clip and the cross-fade of the two key frames reach about 22 dB. Not a data set of the paper: `paper` has its
architecture and a schedule of 100,000 steps; not trained. `cpu`: see docs/results.md for measured results.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.inbetween.presets import SHORT_SIZES
from vidgen_jax.gans.presets import apply_form
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_shape_motion:{variant}"
  config.data.name = "shape_motion"
  config.data.eval_window = "random"
  config.evaluation.object_tracking = True
  apply_form(config, variant, SHORT_SIZES)
  return config
