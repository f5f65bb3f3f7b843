"""The networks that scores are computed with: classifiers of videos (I3D, C3D, 3-D ResNet-18, TSN) and PWC-Net."""

from vidgen_jax.scores.networks.c3d import C3D
from vidgen_jax.scores.networks.i3d import I3D
from vidgen_jax.scores.networks.layers import ClassifierOutput
from vidgen_jax.scores.networks.registry import FLOW_NETWORKS, NETWORKS, build_network
from vidgen_jax.scores.networks.resnet3d import ResNet3D
from vidgen_jax.scores.networks.tsn import TSN

__all__ = ["C3D", "FLOW_NETWORKS", "I3D", "NETWORKS", "TSN", "ClassifierOutput", "ResNet3D", "build_network"]
