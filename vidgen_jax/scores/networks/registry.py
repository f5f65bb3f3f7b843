"""The classifiers by the names that commands and weight files use."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.scores.networks.c3d import C3D
from vidgen_jax.scores.networks.i3d import I3D
from vidgen_jax.scores.networks.resnet3d import ResNet3D
from vidgen_jax.scores.networks.tsn import TSN

NETWORKS: Mapping[str, type[nn.Module]] = MappingProxyType({"i3d": I3D, "c3d": C3D, "r3d18": ResNet3D, "tsn": TSN})
"""The classifiers by name."""


def build_network(name: str, settings: Mapping[str, Any]) -> nn.Module:
  """The network of a weights file.

  Args:
    name: in `NETWORKS`.
    settings: its constructor arguments.

  Raises:
    UserError: if the network is unknown, or does not take these settings.
  """
  if name not in NETWORKS:
    raise UserError(f"there is no network {name!r}; the networks are {', '.join(NETWORKS)}")
  try:
    return NETWORKS[name](**settings)
  except TypeError as error:
    raise UserError(
      f"network {name!r} does not take the settings {dict(settings)} ({error}); import it again"
    ) from error
