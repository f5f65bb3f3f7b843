"""Table 1 of TrIVD-GAN-FP: discriminator decompositions, all trained for the same time (4.2).

ROW                    IS    FVD  K steps      GFLOP  chip-hours
clip                 10.9   59.6      758  1,324,151       7,560
downsampled           8.9  122.1    1,000    723,781       5,450
cropped               9.4  159.9      997    723,781       5,430
cropped_downsampled  11.5   44.1      792    905,844       5,400
mocogan_like_1       11.3   47.4      651  1,350,777       6,620
mocogan_like_8       11.4   46.2      561  1,537,160       6,490
dvd_gan_fp           10.9   55.0      689    936,790       4,860
faster               11.7   46.1      817    771,749       4,750
stronger             11.8   39.3      675    953,812       4,850

IS, FVD and steps are the paper's. GFLOP per step, and chip-hours of TPU v3 at 30 % of its peak, are estimates of
`vidgen bench --config=experiments/trivd_table1.py:ROW --estimate`.

ROW: Kinetics-600 (see `trivd_kinetics600.py`), its validation split, ch 48, ConvGRU, batch size 512, the paper's number
of steps. ROW_cpu and ROW_smoke: the same discriminators on Shape Motion at the size of `trivd_shape_motion.py`, with
fewer than 8 drawn frames. Times, memory and step budgets on your hardware: `python benchmarks/paper_table.py
--table=decompositions`. Not trained at paper size.

Variants: ROW, ROW_cpu, ROW_smoke.
"""

import ml_collections

from vidgen_jax.gans.presets import row_and_form, variants_of
from vidgen_jax.gans.trivd import presets
from vidgen_jax.runs.config import template

ROWS = {
  "clip": 758_000,
  "downsampled": 1_000_000,
  "cropped": 997_000,
  "cropped_downsampled": 792_000,
  "mocogan_like_1": 651_000,
  "mocogan_like_8": 561_000,
  "dvd_gan_fp": 689_000,
  "faster": 817_000,
  "stronger": 675_000,
}
"""Number of steps in 103 hours, by row."""

VARIANTS = variants_of(tuple(ROWS))


def get_config(variant: str = "stronger") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  row, form = row_and_form(variant, tuple(ROWS))
  config = template("trivd")
  config.name = f"trivd_table1:{variant}"
  presets.comparison(config, form)
  if form == "paper":
    config.train.num_steps = ROWS[row]
  config.algorithm.recurrent_unit = "conv_gru"
  config.algorithm.decomposition = "mocogan_like" if row.startswith("mocogan_like") else row
  if row == "mocogan_like_1":
    config.algorithm.frames_per_clip = 1
  return config
