"""Networks for optical flow, and their names in commands and weight files."""

from vidgen_jax.models.flow.pwc_net import PWCNet
from vidgen_jax.models.flow.registry import FLOW_NETWORKS

__all__ = ["FLOW_NETWORKS", "PWCNet"]
