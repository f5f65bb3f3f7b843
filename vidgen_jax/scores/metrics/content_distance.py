"""Average content distance: how much the content of a clip changes between its frames."""

from collections.abc import Callable

import numpy as np

from vidgen_jax.scores.metric import Kind, Metric


def mean_colour(video: np.ndarray) -> np.ndarray:
  """Mean colours float64[B, T, C] of the frames of uint8[B, T, H, W, C], the embedding of SR-cGAN for Shape Motion."""
  return video.mean(axis=(2, 3), dtype=np.float64)


def average_content_distance(
  video: np.ndarray, *, embed: Callable[[np.ndarray], np.ndarray] = mean_colour
) -> np.ndarray:
  """Mean Euclidean distance between the embeddings of two frames of a clip, over all pairs of frames: float64[B].

  Args:
    video: uint8[B, T, H, W, C], T >= 2.
    embed: function from the video to embeddings [B, T, D], such as features of a network that recognises identities.
  """
  embeddings = np.asarray(embed(video), np.float64)
  first, second = np.triu_indices(video.shape[1], k=1)
  return np.linalg.norm(embeddings[:, first] - embeddings[:, second], axis=-1).mean(axis=1)


METRICS = (
  Metric(
    name="content_distance",
    description="average content distance: mean distance between the embeddings (mean colours by default) of any two "
    "frames of a clip. It should be near the value of the real clips; black clips score 0",
    source="MoCoGAN (Tulyakov et al., arXiv:1707.04993), section 4.1; SR-cGAN, section IV",
    protocol="mean colours of frames on [0, 255]",
    function=average_content_distance,
    higher_is_better=None,
    kind=Kind.CLIP,
    selectable=False,
  ),
)
