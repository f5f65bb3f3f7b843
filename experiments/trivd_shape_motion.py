"""TrIVD-GAN-FP on Shape Motion: a circle or a square on a curved path over a black ground.

Data: `vidgen data build shape_motion`. The object is scored by its place as well as by PSNR, because a black clip,
which forgets the object, already reaches about 22 dB. Not a data set of TrIVD-GAN-FP: `paper` is its architecture at ch
48 with batch 64, for one accelerator; not measured. `cpu`: see README for the measured curve.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_shape_motion:{variant}"
  presets.shape_motion(config)
  if variant == "paper":
    presets.trivd_paper(config, channels=48)
    config.algorithm.remat = False
    config.train.batch_size = 64
    config.train.num_steps = 50_000
    config.ema.decay = 0.999
    config.ema.start_step = 1_000
  elif variant == "cpu":
    presets.trivd_cpu(config)
  elif variant == "smoke":
    presets.trivd_smoke(config)
  else:
    raise presets.unknown_variant(variant)
  return config
