"""The inputs that all figures of a run share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import RunSampler
from vidgen_jax.runs.workdir import Trained


@dataclass(frozen=True, kw_only=True)
class FigureInputs:
  """A run's generator, and its evaluation clips with their truth: `shown` in images, `measured` in curves."""

  folder: Path
  trained: Trained
  sampler: RunSampler
  shown: Clips
  measured: Clips
  samples: int
  seed: int

  @property
  def origin(self) -> dict[str, Any]:
    """A description of the samples: the first fields of JSON files."""
    return {
      "experiment": self.trained.experiment.config.name,
      "step": self.trained.step,
      "weights": self.trained.weights,
      "data": self.sampler.data.name,
      "split": self.sampler.split,
      "num_frames": self.sampler.num_frames,
      "conditioning_indices": list(self.sampler.conditioning_indices),
      "truncation": self.sampler.options.truncation,
      "samples": self.samples,
      "seed": self.seed,
    }
