"""The networks that scores are computed with, by the names that commands and weight files use."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.nn.pwc_net import PWCNet
from vidgen_jax.scores.networks.c3d import C3D
from vidgen_jax.scores.networks.i3d import I3D
from vidgen_jax.scores.networks.inception import Inception
from vidgen_jax.scores.networks.lpips import LPIPS
from vidgen_jax.scores.networks.resnet3d import ResNet3D
from vidgen_jax.scores.networks.tsn import TSN
from vidgen_jax.scores.networks.video_statistics import VideoStatistics
from vidgen_jax.scores.networks.vit import VJEPA, VideoMAE

NETWORKS: Mapping[str, type[nn.Module]] = {
  "i3d": I3D,
  "c3d": C3D,
  "r3d18": ResNet3D,
  "tsn": TSN,
  "inception": Inception,
  "videomae": VideoMAE,
  "vjepa": VJEPA,
  "video_statistics": VideoStatistics,
}
"""Feature networks; all map a video to a `ClassifierOutput`, of each frame those of `FRAME_NETWORKS`."""

FRAME_NETWORKS = frozenset(("inception",))
"""Classifiers of frames, whose output has an axis of frames: [B, T, ...]."""

FLOW_NETWORKS: Mapping[str, type[nn.Module]] = {"pwc_net": PWCNet}
"""Optical-flow networks; all map two images to the motion from the first to the second."""

PAIR_NETWORKS: Mapping[str, type[nn.Module]] = {"lpips": LPIPS}
"""Networks that map two images to their distance."""


def build_network(name: str, settings: Mapping[str, Any]) -> nn.Module:
  """Builds the classifier of a weight file; UserError if it is unknown or does not take these constructor arguments."""
  if name not in NETWORKS:
    raise UserError(f"there is no network {name!r}; the networks are {', '.join(NETWORKS)}")
  try:
    return NETWORKS[name](**settings)
  except TypeError as error:
    raise UserError(
      f"network {name!r} does not take the settings {dict(settings)} ({error}); import the weights again"
    ) from error
