"""Table 2 of TrIVD-GAN-FP: the generator's recurrent units, 500,000 steps each (4.3).

ROW                  IS    FVD      GFLOP  chip-hours
conv_lstm          11.4   51.3    655,562       2,470
conv_gru           11.4   49.4    771,749       2,900
k_traj_gru         11.6   45.9    850,950       3,200
tsru_c             11.6   44.2    774,716       2,920
tsru_p             11.5   43.7    774,716       2,920
tsru_s             11.6   45.8    778,371       2,930
ptsru_s            11.5   47.1    816,713       3,070
conv_lstm_tanh                    655,562       2,470
dynamic_conv_lstm                 687,971       2,590

IS and FVD are the paper's, which reports ConvLSTM with ReLU and omits the last two units. GFLOP per step, and
chip-hours of TPU v3 at 30 % of its peak, are estimates of `vidgen bench --config=experiments/trivd_table2.py:ROW
--estimate`. The dynamic unit is far slower than its FLOPs suggest (F.4: 6,385 ms per step; ConvGRU: 284 ms).

ROW: Kinetics-600 (see `trivd_kinetics600.py`), its validation split, ch 48, the discriminators `faster`, batch size
512. ROW_cpu and ROW_smoke: the same on Shape Motion at the size of `trivd_shape_motion.py`. Times on your hardware:
`python benchmarks/paper_table.py --table=units`. Not trained at paper size.

Variants: ROW, ROW_cpu, ROW_smoke, where ROW is the name of a recurrent unit.
"""

import ml_collections

from vidgen_jax.gans.presets import row_and_form, variants_of
from vidgen_jax.gans.trivd import presets
from vidgen_jax.nn.recurrent import RECURRENT_UNITS
from vidgen_jax.runs.config import template

VARIANTS = variants_of(tuple(RECURRENT_UNITS))


def get_config(variant: str = "tsru_p") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  unit, form = row_and_form(variant, tuple(RECURRENT_UNITS))
  config = template("trivd")
  config.name = f"trivd_table2:{variant}"
  presets.comparison(config, form)
  if form == "paper":
    config.train.num_steps = 500_000
  config.algorithm.recurrent_unit = unit
  config.algorithm.decomposition = "faster"
  return config
