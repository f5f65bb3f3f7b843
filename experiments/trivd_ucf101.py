"""TrIVD-GAN-FP on UCF-101, 5 -> 11 frames (paper: C.2, FVD 55.2 +- 0.64).

Data: `vidgen data build ucf101 --source=FOLDER --size=64 --encoding=png`, the first official split. `paper`: ch 92,
1,000,000 steps, otherwise as on Kinetics. Estimated cost: 3,504,382 GFLOP per step, 26,400 chip-hours of TPU v3 at 30 %
of its peak (`vidgen bench --estimate`). 16 TPU v5e need --config.step.accumulate=2 (docs/several_hosts.md). Not trained
at paper size.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.trivd import presets
from vidgen_jax.runs.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_ucf101:{variant}"
  config.data.name = "ucf101"
  presets.configure(config, variant, channels=92)
  if variant == "paper":
    config.train.num_steps = 1_000_000
  return config
