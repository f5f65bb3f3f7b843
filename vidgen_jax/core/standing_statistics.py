"""Standing statistics: batch-norm statistics pooled over many forward passes (TrIVD-GAN-FP, E.2)."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from vidgen_jax.core.state import Nets
from vidgen_jax.types import Batch, PRNGKey

STATISTICS = "batch_stats"


def standing_statistics(
  batch_moments: Callable[[Nets, Batch, PRNGKey], Nets], nets: Nets, batches: Iterable[Batch], key: PRNGKey
) -> Nets:
  """Replaces batch statistics by the average of the means and variances of several batches.

  Args:
    batch_moments: one forward pass in train mode with batch-norm momentum 0, which returns nets whose 'batch_stats' are
      the moments of that batch. Spectral vectors are carried from pass to pass, so that they converge.
    nets: nets to evaluate, usually the averages.
    batches: micro-batches as `batch_moments` takes them: labels and conditioning frames of real clips.
    key: key of the latents, folded with the index of the pass.

  Raises:
    ValueError: if there is no batch.
  """
  total, passes = None, 0
  for passes, batch in enumerate(batches, start=1):
    nets = batch_moments(nets, batch, jax.random.fold_in(key, passes))
    moments = {name: net.variables.get(STATISTICS, {}) for name, net in nets.items()}
    # One pass at a time, because batches queued on the devices fill their memory.
    total = jax.block_until_ready(moments if total is None else _add(total, moments))
  if total is None:
    raise ValueError("standing statistics need at least one batch")
  mean = _divide(total, passes)
  return {
    name: net.replace(variables={**net.variables, STATISTICS: mean[name]}) if mean[name] else net
    for name, net in nets.items()
  }


# One compiled program each: hundreds of small operations in flight during a pass with collectives can deadlock XLA's
# emulated CPU devices.
@jax.jit
def _add(total: Any, moments: Any) -> Any:
  return jax.tree.map(jnp.add, total, moments)


@jax.jit
def _divide(total: Any, passes: int) -> Any:
  return jax.tree.map(lambda x: x / passes, total)
