"""Average content distance: how much the content of a clip changes between its frames."""

from collections.abc import Callable

import numpy as np

from vidgen_jax.scores.metric import Kind, Metric


def mean_colour(video: np.ndarray) -> np.ndarray:
  """Mean colours float64[B, T, C] of the frames of uint8[B, T, H, W, C], the embedding of SR-cGAN for Shape Motion."""
  video = np.asarray(video)
  if video.dtype != np.uint8:
    raise TypeError(f"the content distance is defined on [0, 255]: it needs uint8 video, got {video.dtype}")
  if video.ndim != 5:
    raise ValueError(f"video must be [B, T, H, W, C], got shape {video.shape}")
  return video.mean(axis=(2, 3), dtype=np.float64)


def average_content_distance(
  video: np.ndarray, *, embed: Callable[[np.ndarray], np.ndarray] = mean_colour
) -> np.ndarray:
  """Mean Euclidean distance between the embeddings of two frames of a clip, over all pairs of frames: float64[B].

  Args:
    video: uint8[B, T, H, W, C], T >= 2.
    embed: function from the video to embeddings [B, T, D], such as features of a network that recognises identities.

  Raises:
    ValueError: if a clip has fewer than two frames or the embeddings are not [B, T, D].
  """
  embeddings = np.asarray(embed(video), np.float64)
  if embeddings.ndim != 3 or embeddings.shape[:2] != video.shape[:2]:
    raise ValueError(f"embeddings must be [B, T, D] of video {video.shape}, got shape {embeddings.shape}")
  count = embeddings.shape[1]
  if count < 2:
    raise ValueError("the content distance needs clips of at least two frames")
  first, second = np.triu_indices(count, k=1)
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
