"""The network of LPIPS with the weights of a file, for scores of pairs of clips."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from vidgen_jax.errors import UserError
from vidgen_jax.scores.networks import PAIR_NETWORKS
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file


class PerceptualDistance:
  """LPIPS of pairs of images; `fields` are those of its `Score`s: network, and `hash` of the weights."""

  def __init__(self, weights: WeightFile) -> None:
    self._module = PAIR_NETWORKS[weights.network](**weights.settings)
    self._variables = jax.device_put(weights.variables)
    self._apply = jax.jit(self._module.apply)
    label = f"{weights.network}, {self._module.trunk}"
    self.hash = weights.short_hash
    self.fields: Mapping[str, str] = {"extractor": label, "extractor_hash": self.hash}

  def check(self, frame_size: Sequence[int]) -> None:
    """Raises UserError if the frames of (H, W) pixels are too small."""
    image = jax.ShapeDtypeStruct((1, *frame_size, 3), jnp.float32)
    try:
      jax.eval_shape(self._module.apply, self._variables, image, image)
    except ValueError as error:
      raise UserError(f"--lpips: {error}; use a higher resolution") from error

  def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
    """Distances float32[N] of images float32[N, H, W, 3], RGB in [-1, 1]."""
    return self._apply(self._variables, first, second)


def load_perceptual_distance(path: str) -> PerceptualDistance:
  """The network of a weight file; UserError if the file is missing or damaged, or of another network."""
  weights = read_weight_file(path, network="lpips")
  if weights.network not in PAIR_NETWORKS:
    raise UserError(f"--lpips={path} holds {weights.network}; give weights of {' or '.join(PAIR_NETWORKS)}")
  return PerceptualDistance(weights)
