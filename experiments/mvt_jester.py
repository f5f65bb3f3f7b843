"""MVT-GAN on Jester: 27 hand gestures (MVT-GAN; IS 11.90 and S3 .16 of MVT-TSA).

Data: `vidgen data build jester --source=FOLDER --size=96`; its owners' validation list is for testing. The shorter side
becomes 96 and the middle is cut out, which is the paper's 96x136 and crop. VARIANT: 16 frames of 96x96, a = 96,
batch 40, N = 4 (6.1, 6.2); steps and averages are ours, see `presets.mvt`. Gestures have a direction: clips are not
mirrored. Not measured here.

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
  config.name = f"mvt_jester:{variant}"
  presets.mvt(config, row, form)
  config.data.name = "jester"
  config.algorithm.num_classes = 27
  return config
