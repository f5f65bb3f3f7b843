"""Convolutional recurrent units for video, with one interface for all (TrIVD-GAN-FP, section 3.2 and appendix F).

Example:
  unit = RECURRENT_UNITS["tsru_p"](features=32)
  variables = unit.init(key, x, state, num_steps=11, train=False)      # x [B, 11, H, W, C], state [B, H, W, 32]
  states = unit.apply(variables, x, state, num_steps=11, train=False)  # [B, 11, H, W, 32]

Applied with `mutable=[MOTION]`, warping units also return their warping kernels, from which motion can be computed. To
add a unit, add a `RecurrentUnit` under the decorator `register(NAME)` to a module of this package.
"""

import importlib
import pkgutil

from vidgen_jax.nn.recurrent.unit import MOTION, RECURRENT_UNITS, RecurrentUnit

for _module in pkgutil.iter_modules(__path__):
  importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["MOTION", "RECURRENT_UNITS", "RecurrentUnit"]
