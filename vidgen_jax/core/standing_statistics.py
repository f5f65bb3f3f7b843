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
  """Replaces batch statistics by the mean of the batches' means and variances.

  Args:
    batch_moments: one forward pass in train mode with batch-norm momentum 0: returns the nets with 'batch_stats' being
      exactly that batch's moments. Other variables it returns (spectral vectors, advanced by the pass) are carried
      from pass to pass, so that they converge on these weights.
    nets: usually the averages.
    batches: micro-batches of what `batch_moments` takes: labels and conditioning frames of real clips.
    key: folded with the index of the pass.

  Returns:
    New nets; the argument is left alone.

  Raises:
    ValueError: if there is no batch.
  """
  total, passes = None, 0
  for passes, batch in enumerate(batches, start=1):
    nets = batch_moments(nets, batch, jax.random.fold_in(key, passes))
    moments = {name: net.variables.get(STATISTICS, {}) for name, net in nets.items()}
    # One pass at a time: batches that wait on the devices for all others would only fill their memory.
    total = jax.block_until_ready(moments if total is None else _added(total, moments))
  if total is None:
    raise ValueError("standing statistics need at least one batch")
  mean = _divided(total, passes)
  return {
    name: net.replace(variables={**net.variables, STATISTICS: mean[name]}) if mean[name] else net
    for name, net in nets.items()
  }


# One program each: hundreds of single sums and quotients in flight beside a pass that sums over devices can stop XLA's
# emulated CPU devices for good.
@jax.jit
def _added(total: Any, moments: Any) -> Any:
  return jax.tree.map(jnp.add, total, moments)


@jax.jit
def _divided(total: Any, passes: int) -> Any:
  return jax.tree.map(lambda x: x / passes, total)
