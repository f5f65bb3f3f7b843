"""Inbetweening on Weizmann: real people in front of a still background, few clips.

Data: `vidgen data build video_folder --name=weizmann --source=FOLDER --split_group=pair` (strips come in mirrored
pairs, which must not be torn apart). Not a data set of Inbetweening: `paper` is its architecture, its schedule cut to
100,000 steps; not measured. `cpu`: see README.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_weizmann:{variant}"
  config.data.name = "weizmann"
  config.data.random_flip = True
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
