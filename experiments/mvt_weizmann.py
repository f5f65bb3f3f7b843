"""MVT-GAN on Weizmann, ten actions of nine people (paper: S3 .73 with MVT, .77 MC, .79 VAR, .83 TSA).

Data: `vidgen data build weizmann --source=FOLDER` from the official zip files, two people for testing; or, for ROW_cpu,
from strips in class folders, `vidgen data build video_folder --name=weizmann --split_group=pair --encoding=png`, which
keeps mirrored pairs in one split. ROW: 16 frames of 96x96, cropped out of the videos' 180x144 pixels and not mirrored,
a = 96, batch size 40, N = 4 (6.1, 6.2); steps and averages of the weights are ours. ROW_cpu: 8 frames of 32x32, half of
the clips mirrored, the classes of the data set. Not trained at paper size.

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
  config.name = f"mvt_weizmann:{variant}"
  presets.configure(config, row, form)
  config.data.name = "weizmann"
  if form == "paper":
    config.data.resize = "none"
    config.algorithm.num_classes = 10
  else:
    config.data.random_flip = True
  return config
