"""MVT-GAN on UCF-101 (MVT-GAN; IS: MVT 31.91, MVT-TSA 42.79; S3 .54, .60).

Data: `vidgen data build ucf101 --source=FOLDER --size=128`, the first of the owners' splits. VARIANT: 16
frames of 128x128, a = 96, N = 8, batch 56, and 64 of MVT-TSA (6.1, 6.2); steps and averages are ours, see
`presets.mvt`. The authors' published runs began with a generator of single images trained on ImageNet, which is not
in the paper: do not expect its scores from scratch. Not measured here.

Variants: VARIANT, VARIANT_cpu, VARIANT_smoke, where VARIANT is mvt, mvt_mc, mvt_var or mvt_tsa.
"""

import ml_collections

from vidgen_jax.gans import presets
from vidgen_jax.runs.config import template

VARIANTS = presets.variants_of(tuple(presets.MVT_ROWS))


def get_config(variant: str = "mvt_tsa") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  row, form = presets.row_and_form(variant, tuple(presets.MVT_ROWS))
  config = template("mvt")
  config.name = f"mvt_ucf101:{variant}"
  presets.mvt(config, row, form, resolution=128)
  config.data.name = "ucf101"
  config.algorithm.num_classes = 101
  if form == "paper":
    config.algorithm.frames_per_clip = 8
    config.train.batch_size = 64 if row == "mvt_tsa" else 56
  return config
