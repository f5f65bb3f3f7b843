"""The networks for optical flow by the names that commands and weight files use."""

from collections.abc import Mapping
from types import MappingProxyType

from flax import linen as nn

from vidgen_jax.nn.pwc_net import PWCNet

FLOW_NETWORKS: Mapping[str, type[nn.Module]] = MappingProxyType({"pwc_net": PWCNet})
"""Networks by name; all take two images and give the motion from the first to the second."""
