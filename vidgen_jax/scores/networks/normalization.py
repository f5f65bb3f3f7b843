"""Batch normalisation of classifiers."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def batch_norm(x: jax.Array, *, train: bool, name: str, dtype: Any = jnp.float32) -> jax.Array:
  """Normalises over batch, time and space, inside of a compact method.

  Epsilon is 1e-5 and a step moves the running statistics by a tenth, as in the published ResNets. Under `jax.jit` with
  the batch sharded over a mesh the batch's statistics are those of all devices.

  Args:
    x: [B, T, H, W, C].
    train: uses the batch's statistics and updates the running ones in the collection 'batch_stats'.
    name: of the submodule, which holds `scale` and `bias`, and the statistics `mean` and `var`.
    dtype: of the result.

  Returns:
    [B, T, H, W, C].
  """
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name)(x)
