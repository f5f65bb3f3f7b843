"""Preprocessing of clips for feature networks, which changes published FVDs as much as the model does.

Each protocol follows public code: FVD's reference (google-research, frechet_video_distance), StyleGAN-V (metrics),
VideoGPT (fvd.py), content-debiased FVD (cdfvd/third_party/i3d), common_metrics_on_video_quality (calculate_fvd.py),
TGAN (calc_inception.py) and TGANv2 (c3d_ucf101.py). Its name is part of each score.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.ops.resize import resize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
  """Resize, crop, scale, in this order; and what else a protocol fixes.

  Attributes:
    name: name of the protocol.
    size: (H, W) in pixels after resizing; None keeps the size.
    method: see `vidgen_jax.ops.resize.resize_matrix`.
    fit: 'stretch' resizes each side independently; 'short_side' keeps the aspect ratio and rounds the longer side up.
    crop: (H, W) of the centre crop after resizing; None for `size`.
    clips: whether resized values are limited to [0, 255], which cubic methods exceed.
    mean: mean by RGB channel, in [0, 1]: the result is (v / 255 - mean) / std.
    std: deviation by channel, in [0, 1].
    volume_corner: (top, left) of the part of a volume, stored with the weights, that is subtracted from v in [0, 255],
      BGR, instead; None for RGB.
    epsilon: epsilon of I3D's batch normalisation.
    unbiased: whether Frechet distances divide covariances by N - 1 instead of N.
    real_window: window of the real clips, see `vidgen_jax.scores.clip_sets.ClipOptions`; '' if the protocol fixes none.
    min_frames: smallest number of frames of a clip.
    used_by: code that computes scores by this protocol, for the documentation.
  """

  name: str
  size: tuple[int, int] | None = None
  method: str = "half_pixel_bilinear"
  fit: Literal["stretch", "short_side"] = "stretch"
  crop: tuple[int, int] | None = None
  clips: bool = False
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)
  std: tuple[float, ...] = (0.5, 0.5, 0.5)
  volume_corner: tuple[int, int] | None = None
  epsilon: float = 1e-3
  unbiased: bool = True
  real_window: Literal["", "random"] = ""
  min_frames: int = 1
  used_by: str = ""

  def __call__(self, video: jax.Array, *, volume: Any = None) -> jax.Array:
    """Converts clips to the input of the network, float32[B, T, H, W, 3].

    Args:
      video: uint8[B, T, H, W, C] with C 3, or 1, which is repeated.
      volume: float32[T, H', W', 3], BGR in [0, 255], with `volume_corner`.
    """
    x = _rgb(video)
    if self.size is not None:
      resized = self.size if self.fit == "stretch" else _enclosing(self.size, *x.shape[2:4])
      x = resize(x, *resized, self.method)
      x = jnp.clip(x, 0.0, 255.0) if self.clips else x
      height, width = self.crop or self.size
      top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
      x = x[:, :, top : top + height, left : left + width]
    if self.volume_corner is None:
      return normalise(x, mean=self.mean, std=self.std)
    top, left = self.volume_corner
    return x[..., ::-1] - volume[None, :, top : top + x.shape[2], left : left + x.shape[3]]


def _enclosing(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
  """The smallest size with the aspect ratio of (rows, columns) that encloses a square `size`."""
  # As in VideoGPT's code, where rounding makes a side of some squares 225.
  scale = size[0] / min(rows, columns)
  return (size[0], math.ceil(columns * scale)) if rows < columns else (math.ceil(rows * scale), size[1])


def normalise(video: jax.Array, *, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
  """(video / 255 - mean) / std by RGB channel, float32[..., H, W, 3]; a single channel is repeated."""
  ones = (1,) * (video.ndim - 1)
  offset, scale = (jnp.asarray(np.array(value, np.float32).reshape(*ones, 3)) for value in (mean, std))
  return (_rgb(video) / 255.0 - offset) / scale


def _rgb(video: jax.Array) -> jax.Array:
  return jnp.broadcast_to(video, (*video.shape[:-1], 3)).astype(jnp.float32)


# I3D halves time three times, and its last average pool spans two frames.
_FVD = Preprocessing(name="reference", size=(224, 224), min_frames=9)
_COMMON = dataclasses.replace(_FVD, fit="short_side", min_frames=10)

FVD_PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    dataclasses.replace(
      _FVD, method="legacy_bilinear", used_by="Unterthiner et al. 2018; google-research/frechet_video_distance"
    ),
    dataclasses.replace(
      _FVD, name="styleganv", unbiased=False, real_window="random", used_by="StyleGAN-V; universome/stylegan-v"
    ),
    dataclasses.replace(_FVD, name="videogpt", fit="short_side", epsilon=1e-5, used_by="VideoGPT; wilson1yan/VideoGPT"),
    dataclasses.replace(
      _FVD,
      name="cdfvd",
      epsilon=1e-5,
      unbiased=False,
      used_by="content-debiased FVD with `model='i3d'`; songweige/content-debiased-fvd",
    ),
    dataclasses.replace(
      _COMMON,
      name="common_metrics",
      used_by="JunyaoHu/common_metrics_on_video_quality with `method='styleganv'`, its default",
    ),
    dataclasses.replace(
      _COMMON,
      name="common_metrics_videogpt",
      epsilon=1e-5,
      used_by="JunyaoHu/common_metrics_on_video_quality with `method='videogpt'`",
    ),
  )
}
"""Protocols of FVD by name. All of them use the logits of I3D for RGB in [-1, 1]."""

FID_PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    Preprocessing(name="pytorch_fid", size=(299, 299), used_by="mseitzer/pytorch-fid"),
    Preprocessing(
      name="clean",
      size=(299, 299),
      method="antialias_cubic",
      clips=True,
      mean=(128 / 255,) * 3,
      std=(128 / 255,) * 3,
      used_by="clean-fid with `mode='clean'`; GaParmar/clean-fid",
    ),
  )
}
"""Input of Inception-v3 for the FID of frames."""

NETWORK_PROTOCOLS = {
  "videomae": Preprocessing(
    name="cdfvd",
    size=(224, 224),
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    unbiased=False,
    used_by="content-debiased FVD with `model='videomae'`; songweige/content-debiased-fvd",
  ),
  # The code leaves resizing to the user.
  "vjepa": Preprocessing(
    name="jedi", size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), used_by="JEDi; oooolga/JEDi"
  ),
}
"""Input of networks that are used by one protocol only."""

C3D_PROTOCOLS = {
  "tgan1": Preprocessing(
    name="tgan1", size=(128, 128), method="half_pixel_cubic", crop=(112, 112), volume_corner=(8, 21 + 8)
  ),
  "tgan2": Preprocessing(name="tgan2", size=(112, 112), method="corner_bilinear", volume_corner=(8, 8)),
}
"""Input of C3D for the inception score on UCF-101. Both subtract a part of a 128 x 171 mean volume: TGAN the middle 112
columns of columns 21..148, TGANv2 columns 8..119."""
