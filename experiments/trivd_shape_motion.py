"""TrIVD-GAN-FP on Shape Motion: a circle or a square on a curved path over a black background.

Data: `vidgen data build shape_motion`. Scores include the object's position, because PSNR alone says little: a black
clip reaches about 22 dB. Not a data set of the paper: `paper` is its architecture at ch 48 with batch size 64, for one
accelerator; not trained. `cpu`: see docs/results.md for the measured curve.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.trivd import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_shape_motion:{variant}"
  config.update_from_flattened_dict(presets.SHAPE_MOTION)
  presets.configure(config, variant, channels=48)
  if variant == "paper":
    config.update_from_flattened_dict(presets.ONE_ACCELERATOR)
    config.train.batch_size = 64
  return config
