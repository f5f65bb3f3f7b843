"""Networks and losses bound into updates, one algorithm a paper."""

from vidgen_jax.algorithms.base import (
  Algorithm,
  DecodesBlocks,
  FrozenNetwork,
  InfersClips,
  MixesClasses,
  PredictsMotion,
  SampleOptions,
)
from vidgen_jax.algorithms.inbetween import Inbetween
from vidgen_jax.algorithms.inbetween_config import InbetweenConfig
from vidgen_jax.algorithms.mvt import Mvt
from vidgen_jax.algorithms.mvt_config import MvtConfig
from vidgen_jax.algorithms.sr_cgan import SrCgan
from vidgen_jax.algorithms.sr_cgan_config import SrCganConfig
from vidgen_jax.algorithms.trivd import Trivd
from vidgen_jax.algorithms.trivd_config import TrivdConfig

ALGORITHMS = {
  "inbetween": (InbetweenConfig, Inbetween),
  "mvt": (MvtConfig, Mvt),
  "sr_cgan": (SrCganConfig, SrCgan),
  "trivd": (TrivdConfig, Trivd),
}
"""Config type and class by the name that experiments use."""

__all__ = [
  "ALGORITHMS",
  "Algorithm",
  "DecodesBlocks",
  "FrozenNetwork",
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
