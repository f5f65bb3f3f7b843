"""TrIVD-GAN-FP on BAIR robot pushing, one frame -> 15 (paper: C.1).

`paper`: the original split, 43,264 train and 256 test clips (FVD 103.3, with a bias of about 100 for so few clips). The
first 16 frames of each test clip are scored, as in SAVP. Data: `vidgen data build bair --source=FOLDER --encoding=png`
from the official TFRecords.
`balanced`: the paper's own split (FVD 31.8 +- 0.2): the first 70 % of the official train set, in its order, for
training; the other 30 % and the 256 official test clips for testing. These have fewer than the 30,000 clips that the
paper scores, so 30,000 windows are drawn from all windows of 16 frames. Data: the same command with
`--split_rule=balanced --name=bair_balanced`.

Both: ch 48 for the generator and 92 for the discriminators, with lower learning rates than on Kinetics; the paper does
not give the number of steps (700,000 is ours). Estimated cost: 2,220,633 GFLOP per step, 11,700 chip-hours of TPU v3 at
30 % of its peak (`vidgen bench --estimate`). Not trained at paper size.

Variants: paper, balanced, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.presets import unknown_variant
from vidgen_jax.gans.trivd import presets
from vidgen_jax.runs.config import template

VARIANTS = ("paper", "balanced", "cpu", "smoke")


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  if variant not in VARIANTS:
    raise unknown_variant(variant, choices=VARIANTS)
  config = template("trivd")
  config.name = f"trivd_bair:{variant}"
  config.data.name = "bair_balanced" if variant == "balanced" else "bair"
  form = "paper" if variant == "balanced" else variant
  presets.configure(config, form, channels=48)
  if form != "smoke":
    config.algorithm.conditioning_frames = 1
  if form == "paper":
    config.algorithm.discriminator_channels = 92
    config.algorithm.generator_optimizer.learning_rate = 2e-5
    config.algorithm.discriminator_optimizer.learning_rate = 3e-5
    config.data.eval_window = "all" if variant == "balanced" else "start"
    config.evaluation.num_clips = 30_000 if variant == "balanced" else 0
  return config
