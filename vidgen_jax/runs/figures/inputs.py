"""The inputs that all figures of a run share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import RunSampler


@dataclass(frozen=True, kw_only=True)
class FigureInputs:
  """A run's generator and its evaluation clips.

  Attributes:
    folder: existing folder of the figures.
    sampler: the generator.
    shown: clips of images, with their truth.
    measured: clips of curves, with their truth.
    samples: number of samples of each clip.
    seed: seed of the latents.
    origin: origin of the samples, JSON-compatible; the first fields of JSON files.
  """

  folder: Path
  sampler: RunSampler
  shown: Clips
  measured: Clips
  samples: int
  seed: int
  origin: Mapping[str, Any]
