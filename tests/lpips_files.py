"""A stand-in for LPIPS: a network of one weight with a weight file."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vidgen_jax.scores import perceptual
from vidgen_jax.scores.weights.weight_file import WeightFile, write_weight_file


class Difference(nn.Module):
  """Twice the mean absolute difference, by the weight of the file; images below 8x8 are refused."""

  trunk: str

  @nn.compact
  def __call__(self, first, second):
    if first.shape[1] < 8:
      raise ValueError("images are too small")
    assert first.shape[1:] == second.shape[1:] == (*first.shape[1:3], 3)
    return self.param("weight", nn.initializers.ones, ()) * jnp.abs(first - second).mean(axis=(1, 2, 3))


def replace_lpips(patch: pytest.MonkeyPatch, folder: Path) -> str:
  """Makes the package use `Difference` for LPIPS, and returns its weight file."""
  patch.setattr(perceptual, "PAIR_NETWORKS", {"lpips": Difference})
  weights = WeightFile(
    network="lpips",
    settings={"trunk": "alexnet"},
    variables={"params": {"weight": np.float32(2.0)}},
    preprocessing={},
    source="",
    source_hash="",
  )
  write_weight_file(folder / "lpips.safetensors", weights)
  return str(folder / "lpips.safetensors")
