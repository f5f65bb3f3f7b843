"""Inbetweening on Shape Motion: a circle or a square on a curved path over a black ground.

Data: `vidgen data build shape_motion`. The object is scored by its place as well as by PSNR, because a black clip,
which forgets the object, already reaches about 22 dB, and so does the cross-fade of the two key frames. Not a data set
of Inbetweening: `paper` is its architecture, its schedule cut to 100,000 steps; not measured. `cpu`: see README.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_shape_motion:{variant}"
  config.data.name = "shape_motion"
  config.data.eval_window = "random"
  config.evaluation.object_tracking = True
  if variant == "paper":
    presets.inbetween_paper(config)
    config.train.num_steps = 100_000
    config.evaluation.samples = 10
  elif variant == "cpu":
    presets.inbetween_cpu(config)
  elif variant == "smoke":
    presets.inbetween_smoke(config)
  else:
    raise presets.unknown_variant(variant)
  return config
