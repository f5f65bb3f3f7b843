"""The feature network of the package: distances between sets of clips without any download."""

import jax
import numpy as np

from vidgen_jax.scores.extraction import FeatureExtractor
from vidgen_jax.scores.weights.weight_file import WeightFile

# Luma of BT.601 and two colour differences, from RGB in [-1, 1].
_COLOUR = [[0.299, 0.5, -0.25], [0.587, -0.5, -0.25], [0.114, 0.0, 0.5]]
# In the scale of [-1, 1], one level of 256 is 0.0078. The first floor is a quarter of that, averaged over a frame.
_FLOORS = [0.002, 0.0001]


def builtin_weights() -> WeightFile:
  """The constants of `VideoStatistics`; they are not trained, and no random numbers are involved.

  Log energies vary by about one between clips. The weights of the other features were chosen so that these show in
  distances without hiding mild blur: velocities in pixels of scale 1/4, means and slopes of planes in [-1, 1].
  """
  constants = {
    "version": 1.0,  # of the code of `VideoStatistics`, which the hash does not cover otherwise
    "colour": _COLOUR,
    "floors": _FLOORS,
    "offset": 3.0,
    "velocity": 0.5,
    "chroma": 0.5,
    "layout": [[2.0, 4.0, 4.0]] * 3,
  }
  return WeightFile(
    network="video_statistics",
    settings={},
    variables={"params": {name: np.asarray(value, np.float32) for name, value in constants.items()}},
    preprocessing={},
    source="this project",
    source_hash="",
  )


def load_builtin_extractor(*, mesh: jax.sharding.Mesh, batch_size: int = 16) -> FeatureExtractor:
  """The extractor of `VideoStatistics`, which needs no file; clips keep their size."""
  return FeatureExtractor(builtin_weights(), mesh=mesh, batch_size=batch_size)
