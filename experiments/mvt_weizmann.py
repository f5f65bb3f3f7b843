"""MVT-GAN on Weizmann: ten actions of nine people (MVT-GAN; S3: MVT .73, MC .77, VAR .79, TSA .83).

Data: `vidgen data build weizmann --source=FOLDER --size=96` of the owners' zip files, two people for testing; strips in
class folders by `video_folder --name=weizmann`, with `--split_group=pair` for mirrored pairs. VARIANT: 16 frames of
96x96, a = 96, batch 40, N = 4 (6.1, 6.2); steps and averages are ours, see `presets.mvt`. VARIANT_cpu: 8 frames of
32x32, four classes. Not measured here.

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
  config.name = f"mvt_weizmann:{variant}"
  presets.mvt(config, row, form)
  config.data.name = "weizmann"
  config.data.random_flip = True
  config.algorithm.num_classes = 10 if form == "paper" else 4
  return config
