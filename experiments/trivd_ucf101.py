"""TrIVD-GAN-FP on UCF-101, 5 -> 11 frames (TrIVD-GAN-FP, C.2: FVD 55.2 +- 0.64).

Data: `vidgen data build ucf101 --source=FOLDER --size=64`, the first of the owners' splits. `paper`:
ch 92, 1,000,000 steps, otherwise as on Kinetics. Cost, estimated: 2,605,317 GFLOP a step, 19,600 chip-hours of TPU v3
if 30 % of its peak are used (`vidgen bench --estimate`). Not measured here.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_ucf101:{variant}"
  config.data.name = "ucf101"
  if variant == "paper":
    presets.trivd_paper(config, channels=92)
    config.train.num_steps = 1_000_000
  elif variant == "cpu":
    presets.trivd_cpu(config)
  elif variant == "smoke":
    presets.trivd_smoke(config)
  else:
    raise presets.unknown_variant(variant)
  return config
