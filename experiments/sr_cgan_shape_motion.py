"""SR-cGAN on Shape Motion: a circle or a square on a curved path over a black background (paper: IV; ACD 1.05).

Data: `vidgen data build shape_motion`. Clips are every second of 31 frames, which cover the whole path; scores use six
anchors. Batch size, steps and averages of the weights are ours.

cpu_64 has the published frames of 64x64 and narrow networks, for two CPU cores, with three anchors in eight frames;
docs/results.md compares it with and without L_content (`--config.algorithm.content_weight=0`).

Variants: paper; fixed_anchors, the largest number of anchors in every training clip; cpu, cpu_64 and smoke; base,
base_cpu and base_smoke for the base model, which generates clips from noise.
"""

import ml_collections

from vidgen_jax.gans.sr_cgan import presets
from vidgen_jax.runs.config import template

VARIANTS = tuple(presets.SIZES)


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("sr_cgan")
  config.name = f"sr_cgan_shape_motion:{variant}"
  presets.configure(config, variant, tracked=True)
  config.data.name = "shape_motion"
  config.data.eval_window = "random"
  if variant in ("paper", "fixed_anchors", "base"):
    config.data.frame_stride = 2
  return config
