"""The baseline that interpolates along optical flow, with either of the estimators of this package."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.ops.optical_flow import FlowEstimator, LucasKanade
from vidgen_jax.scores.metrics.baselines import flow_interpolation
from vidgen_jax.scores.networks import FLOW_NETWORKS
from vidgen_jax.scores.weights.weight_file import read_weight_file


@dataclass(frozen=True)
class FlowBaseline:
  """`flow_interpolation` with one estimator.

  Attributes:
    name: `Score.subject`, which names the estimator: 'flow_lucas_kanade', or 'flow_pwc_net_' and the hash of weights.
    estimate: the estimator.
  """

  name: str
  estimate: FlowEstimator

  def __call__(self, video: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
    """Whole clips uint8 [B, T, H, W, C] from real ones."""
    return flow_interpolation(video, conditioning_indices, self.estimate)


def load_flow_baseline(*, weights: str | None = None) -> FlowBaseline:
  """The baseline with the network of a weight file, or without a file with pyramidal Lucas-Kanade.

  Raises a UserError if the file is missing or damaged, or belongs to another kind of network.
  """
  if weights is None:
    return FlowBaseline("flow_lucas_kanade", jax.jit(LucasKanade()))
  file = read_weight_file(weights, network="pwc_net")
  if file.network not in FLOW_NETWORKS:
    raise UserError(f"{weights} has weights of {file.network}; choose a file of {' or '.join(FLOW_NETWORKS)}")
  apply = functools.partial(jax.jit(FLOW_NETWORKS[file.network](**file.settings).apply), jax.device_put(file.variables))

  def estimate(*images: jax.Array) -> jax.Array:
    return apply(*(jnp.broadcast_to(image, (*image.shape[:-1], 3)) for image in images))

  return FlowBaseline(f"flow_{file.network}_{file.short_hash}", estimate)
