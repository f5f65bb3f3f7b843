"""Convolutional recurrent units for video, with one interface for all (TrIVD-GAN-FP, section 3.2 and appendix F).

Example:
  unit = TSRU(features=32)
  variables = unit.init(key, x, state, num_steps=11, train=False)      # x [B, 11, H, W, C], state [B, H, W, 32]
  states = unit.apply(variables, x, state, num_steps=11, train=False)  # [B, 11, H, W, 32]

The units are ordinary linen modules and can replace one another; nothing in them knows of a GAN. Applied with
`mutable=["motion"]`, warping units also return the kernels they warped with, from which a motion field can be read.
"""

from collections.abc import Mapping

from vidgen_jax.nn.recurrent.conv_gru import ConvGRU
from vidgen_jax.nn.recurrent.conv_lstm import ConvLSTM, ConvLSTMTanh
from vidgen_jax.nn.recurrent.dynamic_conv_lstm import DynamicConvLSTM
from vidgen_jax.nn.recurrent.traj_gru import KTrajGRU
from vidgen_jax.nn.recurrent.tsru import TSRU, PTSRUs, TSRUc, TSRUs
from vidgen_jax.nn.recurrent.unit import MOTION, RecurrentUnit, Weights
from vidgen_jax.nn.recurrent.warping import WarpingUnit

__all__ = [
  "MOTION",
  "RECURRENT_UNITS",
  "TSRU",
  "ConvGRU",
  "ConvLSTM",
  "ConvLSTMTanh",
  "DynamicConvLSTM",
  "KTrajGRU",
  "PTSRUs",
  "RecurrentUnit",
  "TSRUc",
  "TSRUs",
  "WarpingUnit",
  "Weights",
]

RECURRENT_UNITS: Mapping[str, type[RecurrentUnit]] = {
  "conv_gru": ConvGRU,
  "conv_lstm": ConvLSTM,
  "conv_lstm_tanh": ConvLSTMTanh,
  "k_traj_gru": KTrajGRU,
  "tsru_c": TSRUc,
  "tsru_p": TSRU,
  "tsru_s": TSRUs,
  "ptsru_s": PTSRUs,
  "dynamic_conv_lstm": DynamicConvLSTM,
}
"""Units by the name that configs use."""
