"""Settings of the optimizers, the EMA and the train step. Imports no JAX, so that mistakes are reported at once."""

import math
from dataclasses import dataclass

from vidgen_jax.errors import UserError

MAX_SEED = 2**31 - 1
"""Largest seed that `jax.random` accepts as a Python integer."""


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
  """Adam with an optional linear warm-up of the learning rate.

  Attributes:
    learning_rate: learning rate after the warm-up.
    warmup_steps: number of train steps over which the rate grows linearly from zero; 0 disables the warm-up.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: term added to the root of the second moment.
    clip_norm: maximum global norm of the gradients; 0 disables clipping.
  """

  learning_rate: float
  warmup_steps: int = 0
  b1: float = 0.0
  b2: float = 0.999
  eps: float = 1e-8
  clip_norm: float = 0.0

  def __post_init__(self) -> None:
    for name in ("learning_rate", "warmup_steps", "eps", "clip_norm"):
      if not 0 <= getattr(self, name) < math.inf:
        raise UserError(f"Adam's {name}={getattr(self, name)} must be 0 or more")
    for name in ("b1", "b2"):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(f"Adam's {name}={getattr(self, name)} must be in [0, 1)")

  def learning_rate_at(self, step: int) -> float:
    """Learning rate of the train step after `step` completed ones."""
    if step < self.warmup_steps:
      return self.learning_rate * (step + 1) / self.warmup_steps
    return self.learning_rate


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


@dataclass(frozen=True, kw_only=True)
class StepConfig:
  """Execution of a train step.

  Attributes:
    accumulate: number of parts of a micro-batch whose gradients are averaged before the optimizer step; saves memory.
      Batch statistics and mixed-projection pairs then span one part instead of the micro-batch. Every device keeps one
      whole copy of an update's gradients; devices exchange them once, after the last part.
    quick_compilation: whether CPUs compile the step with few optimisations: in a third to two thirds of the time, but
      the step takes up to 1.7 times as long. Ignored on other platforms.
  """

  accumulate: int = 1
  quick_compilation: bool = False
