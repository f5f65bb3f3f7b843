"""Average content distance: how much the content of a clip changes between its frames."""

import dataclasses
from collections.abc import Callable

import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics.trajectory import object_weight


def mean_colour(video: np.ndarray) -> np.ndarray:
  """Mean colours float64[B, T, C] of the frames of uint8[B, T, H, W, C], the embedding of SR-cGAN for Shape Motion."""
  return video.mean(axis=(2, 3), dtype=np.float64)


def object_colour(video: np.ndarray) -> np.ndarray:
  """Mean colours float64[B, T, C] of the object's pixels in uint8[B, T, H, W, C], the embedding of MoCoGAN.

  The pixels are those of `object_weight`; frames without an object have no colour: NaN. A pixel counts as the part of
  the object that its brightness is of the brightest one's: resized clips have an edge of darker pixels, whose number
  changes while the object moves.
  """
  brightness = np.asarray(object_weight(video), np.float64)
  total = (video * (brightness > 0)[..., None]).sum(axis=(2, 3), dtype=np.float64)
  peak, size = (reduce(brightness, axis=(2, 3))[..., None] for reduce in (np.max, np.sum))
  return np.where(peak > 0, total * peak / np.where(size > 0, size, 1.0), np.nan)


def average_content_distance(
  video: np.ndarray, *, embed: Callable[[np.ndarray], np.ndarray] = mean_colour
) -> np.ndarray:
  """Mean Euclidean distance between the embeddings of two frames of a clip, over all pairs of frames: float64[B].

  Pairs with an embedding that is NaN are left out; NaN for a clip without any other pair.

  Args:
    video: uint8[B, T, H, W, C], T >= 2.
    embed: function from the video to embeddings [B, T, D], such as features of a network that recognises identities.
  """
  embeddings = np.asarray(embed(video), np.float64)
  first, second = np.triu_indices(video.shape[1], k=1)
  distances = np.linalg.norm(embeddings[:, first] - embeddings[:, second], axis=-1)
  known = ~np.isnan(distances)
  count = known.sum(axis=1)
  return np.where(count > 0, np.where(known, distances, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def object_content_distance(video: np.ndarray) -> np.ndarray:
  """`average_content_distance` of `object_colour`: float64[B], NaN without two frames with an object."""
  return average_content_distance(video, embed=object_colour)


_FRAME = Metric(
  name="content_distance",
  description="average content distance of SR-cGAN: mean distance between the embeddings (mean colours of whole frames "
  "by default) of any two frames of a clip. It should be near the value of the real clips; black clips score 0",
  source="SR-cGAN, section IV.B; after MoCoGAN (Tulyakov et al., arXiv:1707.04993), section 4.1",
  protocol="mean colours of frames on [0, 255]",
  function=average_content_distance,
  higher_is_better=None,
  kind=Kind.CLIP,
  selectable=False,
)
METRICS = (
  _FRAME,
  dataclasses.replace(
    _FRAME,
    name="content_distance_object",
    description="average content distance of MoCoGAN for Shape Motion: the same with the mean colour of the object's "
    "pixels; background, position and size of the object do not count. Frames without an object are left out",
    source="MoCoGAN (Tulyakov et al., arXiv:1707.04993), section 4.1",
    protocol="mean colours of the object on [0, 255], edge pixels by their brightness",
    function=object_content_distance,
    needs=(Need.OBJECT,),
  ),
)
