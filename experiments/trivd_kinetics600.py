"""TrIVD-GAN-FP on Kinetics-600, the paper's main result (Table 3: FVD 25.74 +- 0.66, IS 12.54 +- 0.06).

Data: `vidgen data build kinetics600 --source=FOLDER --size=64`, by the official lists.
`paper` is the final model: ch 120, batch size 512, 700,000 steps; the paper used 32 to 512 TPU v3. Estimated cost:
4,428,556 GFLOP per step, 23,300 chip-hours of TPU v3 at 30 % of its peak (`vidgen bench --estimate`).
`paper_48` is the medium model: ch 48, the same discriminators and TSRU_p, for the 1,000,000 steps after which it
reaches FVD 95.8 on UCF-101 (C.2). Estimated cost: 711,769 GFLOP per step, 5,360 chip-hours. Not trained at paper size.
The comparisons of 4.2 and 4.3 are `trivd_table1.py` and `trivd_table2.py`.

Variants: paper, paper_48, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.presets import unknown_variant
from vidgen_jax.gans.trivd import presets
from vidgen_jax.runs.config import template

VARIANTS = ("paper", "paper_48", "cpu", "smoke")


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  if variant not in VARIANTS:
    raise unknown_variant(variant, choices=VARIANTS)
  config = template("trivd")
  config.name = f"trivd_kinetics600:{variant}"
  config.data.name = "kinetics600"
  if variant == "paper_48":
    presets.configure(config, "paper", channels=48)
    config.train.num_steps = 1_000_000
  else:
    presets.configure(config, variant)
  return config
