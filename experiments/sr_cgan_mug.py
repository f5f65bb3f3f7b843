"""SR-cGAN on the MUG facial expressions (SR-cGAN, IV.A.3; ACD of face features .137, of real clips .116).

Data: `vidgen data build mug --source=FOLDER --size=64 --clip_frames=16`: 80 and 20 percent of the takes of six
expressions; every take is divided into sub-sequences of 16 frames, 8,147 in all. Batch, steps and averages are ours.
`vidgen compare --content_network` takes the content distance on features of a network. Not measured here.

Variants: paper, cpu, smoke; base, base_cpu and base_smoke for the base model, which makes clips from noise.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template

VARIANTS = presets.SR_CGAN_VARIANTS


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("sr_cgan")
  config.name = f"sr_cgan_mug:{variant}"
  presets.sr_cgan(config, variant)
  config.data.name = "mug"
  if "cpu" in variant:
    config.data.frame_stride = 1
  return config
