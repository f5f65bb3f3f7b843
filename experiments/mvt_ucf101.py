"""MVT-GAN on UCF-101 (paper: IS 31.91 and S3 .54 with MVT, IS 42.79 and S3 .60 with MVT-TSA).

Data: `vidgen data build ucf101 --source=FOLDER --size=128`, the first official split. ROW: 16 frames of 128x128, a =
96, N = 8, batch size 56, or 64 for MVT-TSA (6.1, 6.2); steps and averages of the weights are ours. The authors'
released runs started from an image generator trained on ImageNet, which the paper does not mention: do not expect its
scores when training from scratch. Not trained at paper size.

Variants: ROW, ROW_cpu, ROW_smoke, where ROW is mvt, mvt_mc, mvt_var or mvt_tsa.
"""

import ml_collections

from vidgen_jax.gans.mvt import presets
from vidgen_jax.gans.presets import row_and_form
from vidgen_jax.runs.config import template

VARIANTS = presets.VARIANTS


def get_config(variant: str = "mvt_tsa") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  row, form = row_and_form(variant, tuple(presets.ROWS))
  config = template("mvt")
  config.name = f"mvt_ucf101:{variant}"
  presets.configure(config, row, form, resolution=128)
  config.data.name = "ucf101"
  config.algorithm.num_classes = 101
  if form == "paper":
    config.algorithm.frames_per_clip = 8
    config.train.batch_size = 64 if row == "mvt_tsa" else 56
  return config
