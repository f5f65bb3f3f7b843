"""The inputs that all figures of a run share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import RunSampler


@dataclass(frozen=True, kw_only=True)
class FigureInputs:
  """A run's generator, and its evaluation clips with their truth: `shown` in images, `measured` in curves.

  `origin` describes the samples: the first fields of JSON files.
  """

  folder: Path
  sampler: RunSampler
  shown: Clips
  measured: Clips
  samples: int
  seed: int
  origin: Mapping[str, Any]
