"""SR-cGAN on Shape Motion: a circle or a square on a curved path over a black ground (paper 002, IV).

Data: `vidgen data build shape_motion`. Clips are every second of 31 frames, so that they show the whole path; six
anchors are given when clips are scored. Batch, steps and averages are ours. Not measured yet.

Variants: paper, cpu, smoke; base, base_cpu and base_smoke for the base model, which makes clips from noise.
"""

import ml_collections

from vidgen_jax import presets
from vidgen_jax.config import template

VARIANTS = ("paper", "cpu", "smoke", "base", "base_cpu", "base_smoke")


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  if variant not in VARIANTS:
    raise presets.unknown_variant(variant, choices=VARIANTS)
  config = template("sr_cgan")
  config.name = f"sr_cgan_shape_motion:{variant}"
  is_base, form = variant.startswith("base"), variant.removeprefix("base").removeprefix("_") or "paper"
  {"paper": presets.sr_cgan_paper, "cpu": presets.sr_cgan_cpu, "smoke": presets.sr_cgan_smoke}[form](config)
  config.data.name = "shape_motion"
  config.data.eval_window = "random"
  if form == "paper":
    config.data.frame_stride = 2
  config.evaluation.object_tracking = True
  if is_base:
    config.algorithm.anchors = (0, 0)
    config.algorithm.given_frames = ()
  return config
