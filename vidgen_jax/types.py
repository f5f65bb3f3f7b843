"""Aliases that signatures use for the arrays that travel through the package."""

from collections.abc import Mapping
from typing import Any

import jax

Params = Mapping[str, Any]
"""The `params` collection of one network."""

Variables = Mapping[str, Any]
"""Every other collection of one network: {'batch_stats': ..., 'spectral_stats': ...}; {} where stateless."""

Batch = Mapping[str, jax.Array]
"""'label': int32[..., B], and 'video': uint8[..., B, T, H, W, C], whole clips, or 'given': uint8[..., B, G, H, W, C],
the conditioning frames of clips to be made; a leading axis K where micro-batches are stacked."""

Metrics = dict[str, jax.Array]
"""Scalars by name."""

Video = jax.Array
"""[B, T, H, W, C]: float in [-1, 1] inside the models, uint8 outside."""

PRNGKey = jax.Array
