"""Classifiers of videos, whose logits and features scores are taken on: I3D, C3D, 3-D ResNet-18, TSN."""

from vidgen_jax.models.classifiers.c3d import C3D
from vidgen_jax.models.classifiers.i3d import I3D
from vidgen_jax.models.classifiers.output import ClassifierOutput
from vidgen_jax.models.classifiers.registry import NETWORKS, build_network
from vidgen_jax.models.classifiers.resnet3d import ResNet3D
from vidgen_jax.models.classifiers.tsn import TSN

__all__ = ["C3D", "I3D", "NETWORKS", "TSN", "ClassifierOutput", "ResNet3D", "build_network"]
