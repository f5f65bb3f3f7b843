"""Type aliases of the arrays in signatures."""

from collections.abc import Mapping
from typing import Any

import jax

Params = Mapping[str, Any]
"""`params` collection of one network."""

Variables = Mapping[str, Any]
"""Every other collection of one network: {'batch_stats': ..., 'spectral_stats': ...}; {} where stateless."""

Batch = Mapping[str, jax.Array]
"""'label': int32[..., B] and either 'video': uint8[..., B, T, H, W, C], whole clips, or 'conditioning':
uint8[..., B, G, H, W, C], the conditioning frames. Stacked micro-batches have a leading axis K."""

Metrics = dict[str, jax.Array]
"""Scalars by name."""

Video = jax.Array
"""[B, T, H, W, C]: float in [-1, 1] inside the models, uint8 outside."""

PRNGKey = jax.Array

BATCH_AXES = ("data", "fsdp")
"""Mesh axes over which the clips of a train step are split, major first."""
