"""Exponential moving averages of parameters."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
  """Exponential moving average (EMA) of the weights.

  Attributes:
    decay: weight of the old average, in [0, 1].
    start_step: number of completed train steps up to which the EMA equals the live weights (TrIVD-GAN-FP: 20,000).
    warmup: whether the decay grows as min(decay, (1 + n) / (10 + n)) with the number n of averaged steps; for short
      runs.
  """

  decay: float = 0.9999
  start_step: int = 20_000
  warmup: bool = False

  def __post_init__(self) -> None:
    if not 0 <= self.decay <= 1:
      raise UserError(f"ema.decay={self.decay} must be in [0, 1]")


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
