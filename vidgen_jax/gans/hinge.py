"""Hinge losses summed over discriminators (TrIVD-GAN-FP eqs. 13 and 14; MVT-GAN eqs. 2 and 3, as a minimisation)."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.core.update import Loss, LossOutput
from vidgen_jax.ops import losses
from vidgen_jax.types import Metrics, Video

Discriminate = Callable[[str, tuple[Video, ...]], tuple[tuple[jax.Array, ...], NetState]]
"""(discriminator, sets of inputs) -> (outputs for each set, discriminator with updated variables)."""


def discriminator_loss(discriminate: Discriminate, real: Mapping[str, Video], fake: Mapping[str, Video]) -> Loss:
  """The discriminators' loss on real and generated inputs, both by discriminator."""
  total = jnp.zeros(())
  refreshed: Nets = {}
  metrics: Metrics = {}
  for name, real_input in real.items():
    (on_real, on_fake), refreshed[name] = discriminate(name, (real_input, fake[name]))
    loss = losses.hinge_discriminator_loss(on_real, on_fake)
    total = total + loss
    metrics |= {f"{name}/loss": loss, f"{name}/real": jnp.mean(on_real), f"{name}/fake": jnp.mean(on_fake)}
  return total, LossOutput(nets=refreshed, metrics=metrics)


def generator_loss(discriminate: Discriminate, fake: Mapping[str, Video]) -> tuple[jax.Array, Metrics]:
  """The generator's loss on generated inputs by discriminator, -mean D(fake), and its metrics."""
  total = jnp.zeros(())
  metrics: Metrics = {}
  for name, fake_input in fake.items():
    (on_fake,), _ = discriminate(name, (fake_input,))
    metrics[f"{name}/loss"] = loss = losses.hinge_generator_loss(on_fake)
    total = total + loss
  return total, metrics
