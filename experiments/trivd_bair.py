"""TrIVD-GAN-FP on BAIR robot pushing, one frame -> 15 (TrIVD-GAN-FP, C.1).

`paper`: the original split, 43,264 train and 256 test clips (FVD 103.3, with a bias of about 100 for so few clips).
Data: `vidgen data build bair --source=FOLDER` of the official TFRecords.
`balanced`: the paper's own split (FVD 31.8 +- 0.2), train = the first 70 % of the official train set in its order,
test = the other 30 % and the 256 official test clips. Data: the same with `--split_rule=balanced --name=bair_balanced`.

Both: ch 48 for the generator and 92 for the discriminators, with smaller rates than on Kinetics; the number of steps
is not given (700,000 here is ours). Cost, estimated: 1,890,550 GFLOP a step, 10,000 chip-hours of TPU v3 if 30 % of its
peak are used (`vidgen bench --estimate`). Not measured here.

Variants: paper, balanced, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template

VARIANTS = ("paper", "balanced", "cpu", "smoke")


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_bair:{variant}"
  config.data.name = "bair_balanced" if variant == "balanced" else "bair"
  if variant in ("paper", "balanced"):
    presets.trivd_paper(config, channels=48)
    config.algorithm.conditioning_frames = 1
    config.algorithm.discriminator_channels = 92
    config.algorithm.generator_optimizer.learning_rate = 2e-5
    config.algorithm.discriminator_optimizer.learning_rate = 3e-5
  elif variant == "cpu":
    presets.trivd_cpu(config)
    config.algorithm.conditioning_frames = 1
  elif variant == "smoke":
    presets.trivd_smoke(config)
  else:
    raise presets.unknown_variant(variant, choices=VARIANTS)
  return config
