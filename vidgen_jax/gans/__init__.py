"""The GANs, one folder per paper.

To add a GAN, add a folder whose `algorithm.py` has a `Gan` under the decorator `register(NAME, CONFIG_TYPE)`.

Network modules document only their own attributes. These have the same meaning in all modules:
  num_classes: number of classes; 1 for an unconditional model (a constant dummy class).
  channels: channels of the frames.
  bn_momentum: `BatchNorm.momentum`.
  spectral_norm: whether kernels are spectrally normalised.
  remat: whether the backward pass recomputes activations.
  dtype: dtype of the computation; parameters and statistics stay float32.
The same holds for arguments of their calls:
  num_frames: T, number of frames to generate.
  label: class labels int [B]; zeros for an unconditional model.
  train: whether to normalise with the batch's own statistics and to advance power iterations.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from vidgen_jax.gans.base import GANS, DecodesBlocks, Gan, InfersClips, MixesClasses, PredictsMotion, SampleOptions

__all__ = ["GANS", "DecodesBlocks", "Gan", "InfersClips", "MixesClasses", "PredictsMotion", "SampleOptions"]


def __getattr__(name: str) -> Any:
  # Imports the networks, and JAX, on first use: presets and configs, which are below this package, need neither.
  if name not in __all__:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  for folder in pkgutil.iter_modules(__path__):
    if folder.ispkg:
      importlib.import_module(f"{__name__}.{folder.name}.algorithm")
  return getattr(importlib.import_module(f"{__name__}.base"), name)
