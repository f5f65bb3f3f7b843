"""TrIVD-GAN-FP on Kinetics-600, the main result of paper 004 (Table 3: FVD 25.74 +- 0.66, IS 12.54 +- 0.06).

Data: `vidgen data build video_folder --name=kinetics600 --source=FOLDER --size=64` over folders train/ and test/.
`paper` is the final model: ch 120, batch 512, 700,000 steps; the paper used 32 to 512 TPU v3. Not measured here.

Variants: paper, cpu, smoke.
"""

import ml_collections

from vidgen_jax import presets
from vidgen_jax.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_kinetics600:{variant}"
  config.data.name = "kinetics600"
  if variant == "paper":
    presets.trivd_paper(config)
  elif variant == "cpu":
    presets.trivd_cpu(config)
  elif variant == "smoke":
    presets.trivd_smoke(config)
  else:
    raise presets.unknown_variant(variant)
  return config
