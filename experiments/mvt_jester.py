"""MVT-GAN on Jester, 27 hand gestures (paper: MVT-TSA has IS 11.90 and S3 .16).

Data: `vidgen data build jester --source=FOLDER --size=96`, with the official validation list for testing. The shorter
side is scaled to 96 and the centre is cropped, which is the paper's resize to 96x136 and crop for frames of this aspect
ratio. ROW: 16 frames of 96x96, a = 96, batch size 40, N = 4 (6.1, 6.2); steps and averages of the weights are ours.
Clips are not mirrored, because gestures have a direction. Not trained at paper size.

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
  config.name = f"mvt_jester:{variant}"
  presets.configure(config, row, form)
  config.data.name = "jester"
  config.algorithm.num_classes = 27
  return config
