"""The GANs, one folder per paper.

Network modules document only their own attributes. These have the same meaning in all modules:
  num_classes: number of classes; 1 for an unconditional model (a constant dummy class).
  channels: channels of the frames.
  bn_momentum: see `BatchNorm`.
  spectral_norm: whether kernels are spectrally normalised.
  remat: whether the backward pass recomputes activations.
  unroll: whether loops over time or blocks are unrolled (for CPUs; see `vidgen_jax.ops.loops.scan`).
  dtype: dtype of the computation; parameters and statistics stay float32.
The same holds for arguments of their calls:
  num_frames: T, number of frames to generate.
  label: class labels int [B]; zeros for an unconditional model.
  train: whether to normalise with the batch's own statistics and to advance power iterations.
"""

from collections.abc import Mapping

from vidgen_jax.gans.base import DecodesBlocks, Gan, InfersClips, MixesClasses, PredictsMotion, SampleOptions
from vidgen_jax.gans.inbetween.algorithm import Inbetween
from vidgen_jax.gans.inbetween.config import InbetweenConfig
from vidgen_jax.gans.mvt.algorithm import Mvt
from vidgen_jax.gans.mvt.config import MvtConfig
from vidgen_jax.gans.sr_cgan.algorithm import SrCgan
from vidgen_jax.gans.sr_cgan.config import SrCganConfig
from vidgen_jax.gans.trivd.algorithm import Trivd
from vidgen_jax.gans.trivd.config import TrivdConfig

GANS: Mapping[str, tuple[type, type[Gan]]] = {
  "inbetween": (InbetweenConfig, Inbetween),
  "mvt": (MvtConfig, Mvt),
  "sr_cgan": (SrCganConfig, SrCgan),
  "trivd": (TrivdConfig, Trivd),
}
"""Config type and class by the name that experiment files use."""

__all__ = [
  "GANS",
  "DecodesBlocks",
  "Gan",
  "Inbetween",
  "InbetweenConfig",
  "InfersClips",
  "MixesClasses",
  "Mvt",
  "MvtConfig",
  "PredictsMotion",
  "SampleOptions",
  "SrCgan",
  "SrCganConfig",
  "Trivd",
  "TrivdConfig",
]
