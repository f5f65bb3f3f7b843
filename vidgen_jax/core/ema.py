"""Exponential moving averages of parameters."""

import jax
import jax.numpy as jnp

from vidgen_jax.core.config import EmaConfig
from vidgen_jax.core.state import Nets


def update_ema(ema: Nets, nets: Nets, step: jax.Array, config: EmaConfig) -> Nets:
  """Updates the averages after `step` completed train steps, int32[], with the live nets, which contain the averaged.

  Spectral vectors and batch statistics are not averaged, but those of the live nets; evaluation replaces batch
  statistics by standing statistics.
  """
  since_start = (step - config.start_step).astype(jnp.float32)
  decay = jnp.float32(config.decay)
  if config.warmup:
    decay = jnp.minimum(decay, (1.0 + since_start) / (10.0 + since_start))
  decay = jnp.where(since_start <= 0, 0.0, decay)

  def average(old: jax.Array, new: jax.Array) -> jax.Array:
    return decay * old + (1.0 - decay) * new

  return {
    name: net.replace(params=jax.tree.map(average, net.params, nets[name].params), variables=nets[name].variables)
    for name, net in ema.items()
  }
