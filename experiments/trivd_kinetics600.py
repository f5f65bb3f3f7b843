"""TrIVD-GAN-FP on Kinetics-600, the main result of TrIVD-GAN-FP (Table 3: FVD 25.74 +- 0.66, IS 12.54 +- 0.06).

Data: `vidgen data build kinetics600 --source=FOLDER --size=64`, by its owners' lists.
`paper` is the final model: ch 120, batch 512, 700,000 steps; the paper used 32 to 512 TPU v3. Cost, estimated:
4,428,556 GFLOP a step, 23,300 chip-hours of TPU v3 if 30 % of its peak are used (`vidgen bench --estimate`).
`paper_48` is the medium model, ch 48, with the same discriminators and TSRU_p, for the 1,000,000 steps after which it
reaches a FVD of 95.8 on UCF-101 (C.2). Cost, estimated: 711,769 GFLOP a step, 5,360 chip-hours.
Not measured here. The comparisons of 4.2 and 4.3 are `trivd_table1.py` and `trivd_table2.py`.

Variants: paper, paper_48, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template

VARIANTS = ("paper", "paper_48", "cpu", "smoke")


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_kinetics600:{variant}"
  config.data.name = "kinetics600"
  if variant == "paper":
    presets.trivd_paper(config)
  elif variant == "paper_48":
    presets.trivd_paper(config, channels=48)
    config.train.num_steps = 1_000_000
  elif variant == "cpu":
    presets.trivd_cpu(config)
  elif variant == "smoke":
    presets.trivd_smoke(config)
  else:
    raise presets.unknown_variant(variant, choices=VARIANTS)
  return config
