"""LPIPS of predictions against the true clips, by a network of `vidgen_jax.scores.perceptual`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics.psnr import as_unit_pair


def frame_lpips(
  prediction: np.ndarray | jax.Array,
  truth: np.ndarray | jax.Array,
  distance: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
  """LPIPS of each frame of uint8[B, T, H, W, C] with C 3, or 1, which is repeated: float32[B, T], 0 for equal frames.

  `distance` compares images [N, H, W, 3], RGB in [-1, 1]. Other types and shapes raise as in `as_unit_pair`.
  """
  first, second = (2.0 * video - 1.0 for video in as_unit_pair(prediction, truth))
  colours = (*first.shape[:-1], 3)
  # One clip at a time, because the first layers of VGG-16 take 64 times the memory of the frames.
  clips = zip(*(jnp.broadcast_to(video, colours) for video in (first, second)), strict=True)
  return jnp.stack([distance(*pair) for pair in clips])


METRICS = (
  Metric(
    name="lpips",
    description="perceptual distance of the generated frames (--lpips): difference of the features of AlexNet or "
    "VGG-16, which depends less on small shifts than PSNR; mean over frames, 0 for identical ones",
    source="Zhang et al., arXiv:1801.03924, version 0.1; protocol of SAVP (Lee et al., arXiv:1804.01523)",
    protocol="frame_mean",
    function=frame_lpips,
    higher_is_better=False,
    kind=Kind.FRAME,
    needs=(Need.TRUTH, Need.PERCEPTION),
  ),
)
