"""Average content distance: how much a clip's content changes between its frames (MoCoGAN, sec. 4.1; SR-cGAN, IV)."""

from collections.abc import Callable

import numpy as np


def mean_colour(video: np.ndarray) -> np.ndarray:
  """Mean colour of every frame, the embedding that SR-cGAN uses for Shape Motion.

  Args:
    video: uint8[B, T, H, W, C].

  Returns:
    float64[B, T, C], on [0, 255].

  Raises:
    TypeError: if the video is not uint8: the distance depends on the scale.
    ValueError: if it is not [B, T, H, W, C].
  """
  video = np.asarray(video)
  if video.dtype != np.uint8:
    raise TypeError(f"the content distance is defined on [0, 255]: give uint8 video, not {video.dtype}")
  if video.ndim != 5:
    raise ValueError(f"video must be [B, T, H, W, C], got shape {video.shape}")
  return video.mean(axis=(2, 3), dtype=np.float64)


def average_content_distance(
  video: np.ndarray, *, embed: Callable[[np.ndarray], np.ndarray] = mean_colour
) -> np.ndarray:
  """Mean Euclidean distance between the embeddings of a clip's frames, over all pairs of frames.

  Low is good only beside other scores: a black clip has 0.

  Args:
    video: uint8[B, T, H, W, C], T >= 2.
    embed: from the video to embeddings [B, T, D]: colours, or those of a network that knows identities.

  Returns:
    float64[B].

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
