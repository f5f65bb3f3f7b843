"""Classifiers of videos, whose logits and features scores are taken on: I3D, C3D, 3-D ResNet-18, TSN."""

from vidgen_jax.scores.networks.c3d import C3D
from vidgen_jax.scores.networks.i3d import I3D
from vidgen_jax.scores.networks.output import ClassifierOutput
from vidgen_jax.scores.networks.registry import NETWORKS, build_network
from vidgen_jax.scores.networks.resnet3d import ResNet3D
from vidgen_jax.scores.networks.tsn import TSN

__all__ = ["C3D", "I3D", "NETWORKS", "TSN", "ClassifierOutput", "ResNet3D", "build_network"]
