"""Inbetweening on KTH in one channel (Inbetweening: FVD 153 [148, 158], diversity 0.013, best-of-100 SSIM 0.733).

Data: `vidgen data build kth --source=FOLDER --size=64 --clip_frames=16`: persons 1-15 for training, 16 for validation,
17-25 for testing; as in the paper, every video is divided into sub-sequences of 16 frames, all of which are used.
`vidgen evaluate --follow --split=validation --best_metric=fvd --networks=FILE`, beside training, keeps the checkpoint
that the paper would choose. Networks that score colour get the grey channel three times, as in the paper. Not measured
here.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("inbetween")
  config.name = f"inbetween_kth:{variant}"
  config.data.name = "kth"
  config.data.channels = 1
  config.algorithm.channels = 1
  if variant == "paper":
    presets.inbetween_paper(config)
  elif variant == "cpu":
    presets.inbetween_cpu(config)
  elif variant == "smoke":
    presets.inbetween_smoke(config)
  else:
    raise presets.unknown_variant(variant)
  return config
