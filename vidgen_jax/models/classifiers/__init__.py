"""Classifiers of videos, whose logits and features scores are taken on: I3D, C3D, 3-D ResNet-18, TSN."""

from collections.abc import Mapping
from types import MappingProxyType

from flax import linen as nn

from vidgen_jax.models.classifiers.c3d import C3D
from vidgen_jax.models.classifiers.i3d import I3D
from vidgen_jax.models.classifiers.output import ClassifierOutput
from vidgen_jax.models.classifiers.resnet3d import ResNet3D
from vidgen_jax.models.classifiers.tsn import TSN

NETWORKS: Mapping[str, type[nn.Module]] = MappingProxyType({"i3d": I3D, "c3d": C3D, "r3d18": ResNet3D, "tsn": TSN})
"""The classifiers by the names that commands and weight files use."""

__all__ = ["C3D", "I3D", "NETWORKS", "TSN", "ClassifierOutput", "ResNet3D"]
