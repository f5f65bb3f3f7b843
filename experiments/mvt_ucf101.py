"""MVT-GAN on UCF-101 (paper: IS 31.91 and S3 .54 with MVT, IS 42.79 and S3 .60 with MVT-TSA).

Data: `vidgen data build ucf101 --source=FOLDER --size=170`, the first official split. ROW: 16 frames of 96x96, cropped
out of frames that are squashed to 127x127, batch size 56; MVT-TSA 128x128 out of 170x170, batch size 64; a = 96, N = 8
(6.1, 6.2). Steps and averages of the weights are ours. The authors' released runs started from an image generator
trained on ImageNet, which the paper does not mention: do not expect its scores when training from scratch. Not trained
at paper size.

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
  presets.configure(config, row, form)
  config.data.name = "ucf101"
  config.algorithm.num_classes = 101
  if form == "paper":
    config.data.resize = "squash"
    config.data.resolution, config.data.resize_to, config.train.batch_size = (
      (128, 170, 64) if row == "mvt_tsa" else (96, 127, 56)
    )
    config.algorithm.frames_per_clip = 8
  return config
